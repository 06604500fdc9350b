"""Packaging of pumphouse."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
REQUIREMENTS = [
    line for line in (HERE / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")
]
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "pumphouse" / "__init__.py").read_text()).group(1)

setup(
    name="pumphouse",
    version=VERSION,
    description="Moves a tenant from one OpenStack cloud to another",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    python_requires=">=3.11",
    packages=find_packages(include=["pumphouse", "pumphouse.*"]),
    package_data={"pumphouse": ["schemas/*.json", "py.typed"]},
    install_requires=REQUIREMENTS,
    extras_require={
        "postgresql": ["psycopg[binary]>=3.1"],
        "mysql": ["PyMySQL>=1.1"],
        "zookeeper": ["kazoo>=2.10"],
        "lab": ["cryptography>=42", "psutil>=5.9", "uv>=0.13"],
        "test": ["hypothesis>=6.100", "pytest>=8", "pytest-timeout>=2.3", "pytest-xdist>=3.6"],
        "lint": ["mypy>=1.10", "ruff>=0.5", "types-jsonschema", "types-PyYAML", "types-requests"],
    },
    entry_points={"console_scripts": ["pumphouse = pumphouse.cli:main"]},
)

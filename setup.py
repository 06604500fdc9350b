"""Packaging of pumphouse."""

import re
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
REQUIREMENTS = [
    line for line in (HERE / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")
]
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "pumphouse" / "__init__.py").read_text()).group(1)


class BuildPy(build_py):
    """Put the example configuration into the package, too: its one source stands at the top of the checkout."""

    def run(self) -> None:
        """Build, then copy the example; an editable install has the checkout's."""
        super().run()
        if not self.editable_mode:
            self.copy_file(str(HERE / "config.example.yaml"), str(Path(self.build_lib) / "pumphouse"))


setup(
    name="pumphouse",
    version=VERSION,
    description="Moves a tenant from one OpenStack cloud to another",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    project_urls={
        "License": "https://www.apache.org/licenses/LICENSE-2.0",
        "OpenStack APIs": "https://docs.openstack.org/api-quick-start/",
    },
    keywords=["openstack", "migration", "tenant", "project", "keystone", "nova", "neutron", "taskflow"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Environment :: OpenStack",
        "Intended Audience :: System Administrators",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Systems Administration",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["pumphouse", "pumphouse.*"]),
    package_data={"pumphouse": ["schemas/*.json", "show/*.html", "py.typed"]},
    install_requires=REQUIREMENTS,
    extras_require={
        "postgresql": ["psycopg[binary]>=3.1.20"],
        "mysql": ["PyMySQL>=1.1"],
        "zookeeper": ["kazoo>=2.10"],
        "lab": ["cryptography>=43", "psutil>=6.0", "uv>=0.13"],
        "test": ["hypothesis>=6.100", "pytest>=8.2", "pytest-timeout>=2.3.1", "pytest-xdist>=3.6.1"],
        "lint": [
            "mypy>=1.20",
            "ruff>=0.15",
            "types-jsonschema>=4.20",
            "types-PyYAML>=6.0.12.20250915",
            "types-requests>=2.32.4.20250611",
        ],
        "dev": ["build>=1.2", "pillow>=10.3", "pyte>=0.8.2", "setuptools>=77", "tox>=4.67", "tox-uv>=1.37"],
    },
    cmdclass={"build_py": BuildPy},
    entry_points={"console_scripts": ["pumphouse = pumphouse.cli:main"]},
)

"""Which tenants an operator means: several by their names, or all but those of the cloud itself."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pumphouse.errors import NotFoundError
from pumphouse.plan.lookup import all_tenants, find_tenants


class Projects:
    """Keystone's projects: the names and parents by id."""

    def __init__(self, projects: dict[str, tuple[str, str]]) -> None:
        self.projects = {
            i: SimpleNamespace(id=i, name=name, parent_id=parent) for i, (name, parent) in projects.items()
        }

    def get(self, tenant_id: str) -> SimpleNamespace:
        if tenant_id not in self.projects:
            raise type("NotFound", (Exception,), {"http_status": 404})
        return self.projects[tenant_id]

    def list(self) -> list[SimpleNamespace]:
        return [*self.projects.values()]


@pytest.fixture
def source() -> SimpleNamespace:
    projects = {
        "1": ("team-b", "5"),
        "2": ("service", "default"),
        "3": ("admin", "default"),
        "4": ("apps", "default"),
        "5": ("shop", "default"),
        "6": ("team-a", "5"),
        "7": ("services", "other"),
    }
    return SimpleNamespace(
        keystone=SimpleNamespace(projects=Projects(projects)), project_id="3", is_admin=True
    )


def test_all_tenants_are_those_of_users_parents_first(source: SimpleNamespace) -> None:
    found = all_tenants(source)
    assert found.ids == ["4", "5", "6", "1"]
    assert sorted(found.left_out) == [
        "admin (3), which is the operator's own",
        "service (2), which is that of the services",
        "services (7), which is that of the services",
    ]


def test_several_tenants_are_found_once_each_and_what_is_not_found_is_said_at_once(
    source: SimpleNamespace,
) -> None:
    assert find_tenants(source, ["shop", "4", "5"]) == ["5", "4"]
    with pytest.raises(NotFoundError) as caught:
        find_tenants(source, ["shp", "apps", "nothing-like-it"])
    assert caught.value.exit_code == 2
    first, second = str(caught.value).splitlines()
    assert "no tenant 'shp'; did you mean 'shop'?" in first
    assert "no tenant 'nothing-like-it'" in second

"""Which tenants an operator means: by their names, all of them, or by what is in them."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from pumphouse.cloud import or_none
from pumphouse.errors import NotFoundError, UsageError
from pumphouse.tasks import KINDS
from pumphouse.tasks.keystone.common import SERVICE_PROJECTS
from pumphouse.tasks.kind import Found

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud


class Tenants(NamedTuple):
    """The tenants of a cloud, as `--all-tenants` takes them: the ids, and in words what is left out."""

    ids: list[str]
    left_out: list[str]


def find_tenant(source: Cloud, name_or_id: str) -> str:
    """The id of the tenant that an operator named; NotFoundError when there is none, or more than one."""
    if not source.is_admin:
        return _own_tenant(source, name_or_id)
    if found := or_none(source.keystone.projects.get, name_or_id):
        return str(found.id)
    projects = source.keystone.projects.list()
    ids = [project.id for project in projects if project.name == name_or_id]
    if len(ids) == 1:
        return str(ids[0])
    if ids:
        raise NotFoundError(f"{len(ids)} tenants are named {name_or_id!r}: {', '.join(ids)}", "give the id")
    near = difflib.get_close_matches(name_or_id, [project.name for project in projects], n=3)
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?" if near else "list them with: openstack project list"
    )
    raise NotFoundError(f"the source has no tenant {name_or_id!r}", hint)


def _own_tenant(source: Cloud, name_or_id: str) -> str:
    """The tenant that a login is scoped to which is not an administrator's, and sees no other."""
    own = source.access.project_id, source.access.project_name
    if name_or_id not in own:
        raise NotFoundError(
            f"the login of the source sees tenant {own[1]} only, not {name_or_id!r}",
            "name that tenant, or log in as a member of the other or as an administrator",
        )
    return str(own[0])


def find_tenants(source: Cloud, wanted: Iterable[str]) -> list[str]:
    """The ids of several tenants, each once; NotFoundError says all that cannot be found."""
    ids: dict[str, None] = {}
    problems: list[str] = []
    for name_or_id in wanted:
        try:
            ids[find_tenant(source, name_or_id)] = None
        except NotFoundError as error:
            problems.append(f"{error}; {error.hint}")
    if problems:
        raise NotFoundError("\n".join(problems))
    return list(ids)


def all_tenants(source: Cloud) -> Tenants:
    """All tenants of all domains, disabled ones too, each after those it is a child of.

    The operator's own project and that of the services are left out: what is in them belongs to the cloud. Raises
    UsageError when the login may not list them.
    """
    if not source.is_admin:
        raise UsageError(
            "only an administrator of the source sees all tenants", "name the login's own tenant"
        )
    projects = {project.id: project for project in source.keystone.projects.list()}
    paths = {project_id: _path(projects, project_id) for project_id in projects}
    ids, left_out = [], []
    for project_id in sorted(projects, key=lambda i: (len(paths[i]), paths[i], i)):
        name = projects[project_id].name
        if project_id == source.project_id:
            left_out.append(f"{name} ({project_id}), which is the operator's own")
        elif name in SERVICE_PROJECTS:
            left_out.append(f"{name} ({project_id}), which is that of the services")
        else:
            ids.append(project_id)
    return Tenants(ids, left_out)


def _path(projects: dict[str, Any], project_id: str | None) -> tuple[str, ...]:
    """The names of a project and of those above it, from the top; domains are not among them."""
    project = projects.get(project_id or "")
    return (*_path(projects, project.parent_id), project.name) if project else ()


def find_owner(source: Cloud, kind: str, name_or_id: str) -> Found:
    """The resource that an operator named, of a kind that can be found in whichever tenant it is.

    Raises NotFoundError when there is none, UsageError when there are several of its name.
    """
    find_anywhere = KINDS[kind].find_anywhere
    assert find_anywhere is not None, f"{kind} cannot be looked up in all tenants"
    found = find_anywhere(source, {"id": name_or_id}) or find_anywhere(source, {"name": name_or_id})
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(f"{item.id} of tenant {item.tenant_id}" for item in found)
        raise UsageError(
            f"{len(found)} {kind}s are named {name_or_id!r}: {listed}", "give the id, or --tenant"
        )
    near = difflib.get_close_matches(name_or_id, {item.name for item in find_anywhere(source, {})}, n=3)
    hint = (
        f"did you mean {' or '.join(map(repr, near))}?" if near else f"list them with: openstack {kind} list"
    )
    raise NotFoundError(f"the source has no {kind} {name_or_id!r} in any tenant", hint)

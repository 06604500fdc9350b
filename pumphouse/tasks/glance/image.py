"""Images: the record first, then the bytes, then what closes it (visibility, members, protection)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.errors import http_status
from pumphouse.model import Json, Record, Ref, Step, Twin
from pumphouse.tasks.base import (
    BaseCloudsTask,
    BaseRetrieveTask,
    Migration,
    Search,
    differences,
    ensure,
    retrieve,
    symbol,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.glance.common import (
    FIELDS,
    MIGRATABLE,
    SIGNATURE,
    EnsureImage,
    UploadImage,
    content_differences,
    image_data,
    images_by_id,
    list_images,
    list_stamped,
    novas_properties,
    stamp_of,
)
from pumphouse.tasks.keystone.common import twin_among, twin_tenant, visible_projects
from pumphouse.tasks.kind import Found, Kind, matching

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "image"


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The images that the tenant owns, hidden ones too."""
    images = [image for image in list_images(source, owner=tenant_id) if image["owner"] == tenant_id]
    members = _members(source, images)
    needs = (Ref("tenant", tenant_id),)
    return [
        _record(image, (*needs, *_parts(image)), {"members": members.get(image["id"], [])})
        for image in images
    ]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The images of the given ids, whoever owns them."""
    images = images_by_id(source, ids).values()
    names = _tenant_names(source) if images else {}
    return {
        image["id"]: _record(image, _parts(image), {"owner_name": names.get(image["owner"])})
        for image in images
    }


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The images that carry the stamp; a public one of the same name and hash; else those of the same name."""
    destination = search.destination
    owners = {search.ids.get(ref) for record in records for ref in _tenants(record)}
    owned = [image for owner in owners if owner for image in list_images(destination, owner=owner)]
    foreign = [record for record in records if not _tenants(record)]
    projects = visible_projects(destination)
    public = list_images(destination, visibility="public") if foreign else []
    stamped = {
        record.ref: [
            image
            for owner in _trusted_owners(destination, projects, record)
            for image in list_stamped(destination, record.data, owner=owner)
        ]
        for record in foreign
    }
    return {
        record.ref: [
            _with_members(destination, projects, record, twin)
            for twin in _twins(record, owned if _tenants(record) else [*stamped[record.ref], *public])
        ]
        for record in records
    }


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records, with a note for each tenant that an image cannot be shared with."""
    projects = visible_projects(search.destination) if any(_shared_with(r) for r in records) else []
    return [
        replace(
            record,
            notes=(
                *record.notes,
                *(_unshared(m) for m in _shared_with(record) if not _twin_member(projects, m)),
            ),
        )
        for record in records
    ]


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the image, make its record, copy the bytes, close it."""
    ref, title = step.ref, step.record.title
    retrieved, ensured, uploaded = (symbol(ref, verb) for verb in ("retrieved", "ensured", "uploaded"))
    clouds = migration.source, migration.destination
    return [
        retrieve(RetrieveImage, migration, step),
        ensure(EnsureImage, [migration.destination], step),
        UploadImage(
            *clouds,
            migration.transfers,
            provides=uploaded,
            rebind=[retrieved, ensured],
            line=f"copy {step.record.size_bytes} bytes of {title}",
        ),
        CloseImage(
            *clouds,
            provides=symbol(ref, "closed"),
            rebind=[retrieved, ensured, uploaded],
            line=f"set visibility, members and protection of {title}",
        ),
    ]


def changed(cloud: Cloud, destination_id: str, since: datetime) -> str:
    """When the image of the destination was changed last, if that was after an aware time; else empty."""
    image = images_by_id(cloud, [destination_id]).get(destination_id)
    updated = datetime.fromisoformat(image["updated_at"]) if image else since
    return f"updated at {updated:%Y-%m-%d %H:%M:%S}" if updated > since else ""


class RetrieveImage(BaseRetrieveTask):
    """Reads an image record of the source, with its members."""

    def retrieve(self, resource_id: str) -> Json:
        """Its fields; KeyError when it is gone."""
        image = self.cloud.batch(images_by_id).get(resource_id)
        return {**image_data(image), "members": _members(self.cloud, [image]).get(resource_id, [])}


class CloseImage(BaseCloudsTask):
    """Sets what can or should only be set when the bytes are there; protection and deactivation last."""

    def execute(self, data: Json, image: Json, uploaded: Json) -> Json:
        """Set visibility, members, hidden, protection, deactivation; provides notes on what could not be set."""
        images, image_id = self.destination.glance.images, image["id"]
        notes = self._publish(image_id, data["visibility"])
        notes += [note for member in data["members"] if (note := self._share(image_id, member))]
        images.update(image_id, os_hidden=data["os_hidden"], protected=data["protected"])
        if data["status"] == "deactivated":
            images.deactivate(image_id)
        return {"id": image_id, "notes": notes}

    def _publish(self, image_id: str, visibility: str) -> list[str]:
        try:
            self.destination.glance.images.update(image_id, visibility=visibility)
        except Exception as error:
            if http_status(error) != 403:
                raise
            return [f"kept private: the destination does not let the operator make an image {visibility}"]
        return []

    def _share(self, image_id: str, member: Json) -> str:
        """Share the image with the twin of a tenant; returns a note when there is none."""
        twin = twin_tenant(self.destination, member["id"], member.get("name"))
        if twin is None:
            return _unshared(member)
        members = self.destination.glance.image_members
        if twin not in [existing["member_id"] for existing in members.list(image_id)]:
            members.create(image_id, twin)
        members.update(image_id, twin, member["status"])
        return ""


def _record(image: Mapping[str, Any], needs: tuple[Ref, ...], more: Json) -> Record:
    owned = any(need.kind == "tenant" for need in needs)
    return Record(
        Ref(NAME, image["id"]),
        image.get("name") or "",
        {**image_data(image), **more},
        needs,
        notes=_notes(image),
        size_bytes=image.get("size") or 0,
        skip=_skip(image),
        answer=image,
        must_exist=""
        if owned or image["visibility"] == "public"
        else "it belongs to another tenant: migrate that first",
    )


def _notes(image: Mapping[str, Any]) -> tuple[str, ...]:
    left = novas_properties(image)
    return (f"what Nova wrote of its server is not carried: {', '.join(left)}",) if left else ()


def _members(source: Cloud, images: Collection[Mapping[str, Any]]) -> dict[str, list[Json]]:
    """Whom images are shared with, by their ids; asked image by image, because Glance has no list of all."""
    shared = [image["id"] for image in images if image["visibility"] == "shared"]
    with ThreadPoolExecutor() as pool:
        listed = dict(zip(shared, pool.map(source.glance.image_members.list, shared), strict=True))
    found = {image_id: list(members) for image_id, members in listed.items()}
    names = _tenant_names(source) if any(found.values()) else {}
    return {
        image_id: [
            {"id": m["member_id"], "name": names.get(m["member_id"]), "status": m["status"]} for m in members
        ]
        for image_id, members in found.items()
    }


def _tenant_names(cloud: Cloud) -> dict[str, str]:
    return {project.id: project.name for project in visible_projects(cloud)}


def _shared_with(record: Record) -> list[Json]:
    return list(record.data.get("members", ()))


def _twin_member(projects: Collection[Any], member: Json) -> str | None:
    return twin_among(projects, member["id"], member["name"])


def _unshared(member: Json) -> str:
    return f"not shared with tenant {member.get('name') or member['id']}: it is not at the destination; share it when it is"


def _trusted_owners(destination: Cloud, projects: Collection[Any], record: Record) -> set[str]:
    """The tenants in which a stamp can be ours: anybody can put one on what is his own."""
    twin = twin_among(projects, record.data["owner"], record.data["owner_name"])
    return {destination.project_id, *([twin] if twin else [])}


def _with_members(destination: Cloud, projects: Collection[Any], record: Record, twin: Twin) -> Twin:
    """The twin, unfinished while a tenant that is at the destination by now has no share of it."""
    wanted = {_twin_member(projects, member) for member in _shared_with(record)} - {None}
    if not twin.ours or twin.unfinished or not wanted:
        return twin
    shared = {member["member_id"] for member in destination.glance.image_members.list(twin.id)}
    missing = len(wanted - shared)
    return replace(twin, unfinished=f"not shared with {missing} tenants yet") if missing else twin


def _skip(image: Mapping[str, Any]) -> str:
    if image["status"] not in MIGRATABLE:
        return f"its status is {image['status']}: it has no complete data"
    if image.get("block_device_mapping") and not image.get("size"):
        return "it has no bytes, only the names of volume snapshots: take an image of the server's volume instead"
    return ""


def _parts(image: Mapping[str, Any]) -> tuple[Ref, ...]:
    return tuple(Ref(NAME, image[key]) for key in ("kernel_id", "ramdisk_id") if image.get(key))


def _tenants(record: Record) -> list[Ref]:
    return [need for need in record.needs if need.kind == "tenant"]


def _twins(record: Record, images: Iterable[Mapping[str, Any]]) -> Iterator[Twin]:
    by_id = {image["id"]: image for image in images}
    for image in by_id.values():
        found = (*differences(record.data, image, FIELDS), *content_differences(record.data, image))
        if stamp_of(image) == record.ref.id:
            yield Twin(str(image["id"]), ours=True, differences=found, unfinished=_unfinished(record, image))
        elif image["name"] == record.name and _tenants(record):
            yield Twin(str(image["id"]), ours=False, differences=found)
        elif image["name"] == record.name and not content_differences(record.data, image):
            yield Twin(str(image["id"]), ours=True, differences=found)


def _unfinished(record: Record, image: Mapping[str, Any]) -> str:
    if image["status"] not in MIGRATABLE:
        return f"its status is {image['status']}"
    if image["visibility"] == "private" and record.data["visibility"] == "shared":
        return "it is not shared yet"
    if image["protected"] != record.data["protected"] and record.data["protected"]:
        return "it is not protected yet"
    if image["status"] != record.data["status"]:
        return f"its status is {image['status']}, not {record.data['status']}"
    return ""


def strangers(cloud: Cloud, tenant_id: str) -> list[str]:
    """The images of a tenant that no migration has made."""
    return [image["id"] for image in list_images(cloud, owner=tenant_id) if not stamp_of(image)]


def find_anywhere(source: Cloud, wanted: Json) -> list[Found]:
    """The images of that id or name, in whichever tenant."""
    return matching(list_images(source, **wanted), wanted, "owner")


KIND = Kind(
    NAME,
    "image",
    discover,
    fetch,
    find,
    tasks,
    adapt=adapt,
    changed=changed,
    nameable=True,
    strangers=strangers,
    find_anywhere=find_anywhere,
    fields=Fields(
        carried="name disk_format container_format min_disk min_ram status visibility protected os_hidden tags "
        "members/status *",
        mapped={
            "owner": "the tenant's twin",
            "kernel_id": "the image's twin",
            "ramdisk_id": "the image's twin",
            "members/member_id": "the tenant's twin",
        },
        derived="id created_at updated_at size virtual_size checksum os_hash_* file self schema direct_url locations "
        "stores os_glance_* pumphouse_* members/image_id members/created_at members/updated_at members/schema",
        noted={
            **dict.fromkeys(
                sorted(SIGNATURE),
                "its signature is not carried: the key lies in the source's Barbican; sign it again",
            ),
            "cinder_encryption_key_*": "{name} is not carried: its bytes are encrypted, and the key lies in the "
            "source's Barbican; retype the volume that it was made of, and upload that",
        },
    ),
)

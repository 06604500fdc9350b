"""Images: the record first, then the bytes, then what closes it (visibility, members, protection)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from taskflow import task

from pumphouse.errors import TransferError, http_status
from pumphouse.model import Json, Record, Ref, Step, Twin, symbol
from pumphouse.tasks.base import (
    BaseCloudsTask,
    BaseRetrieveTask,
    Migration,
    Search,
    as_asked,
    differences,
    ensure,
    retrieve,
    without_stamps,
)
from pumphouse.tasks.fields import Fields
from pumphouse.tasks.glance.common import (
    ASK,
    ENCRYPTION,
    FIELDS,
    MIGRATABLE,
    NOVAS,
    QUOTA,
    SIGNATURE,
    EnsureImage,
    UploadImage,
    content_differences,
    custom_properties,
    image_data,
    images_by_id,
    is_disk_of_shelved,
    is_snapshot,
    is_twin,
    list_images,
    remove,
    stamp_of,
    unmark,
)
from pumphouse.tasks.keystone.common import tenant_names, twin_tenants
from pumphouse.tasks.kind import Found, Kind, matching
from pumphouse.words import size

if TYPE_CHECKING:
    from pumphouse.cloud import Cloud

NAME = "image"
FLAGS = ("os_hidden", "protected")


def discover(source: Cloud, tenant_id: str) -> list[Record]:
    """The images that the tenant owns, hidden ones too, with their members; not the disks of shelved servers."""
    images = [
        image
        for image in list_images(source, owner=tenant_id)
        if image["owner"] == tenant_id and not is_disk_of_shelved(source, image)
    ]
    members = _members(source, images)
    return [
        _record(image, (Ref("tenant", tenant_id), *_parts(image)), members[image["id"]]) for image in images
    ]


def fetch(source: Cloud, ids: Collection[str]) -> dict[str, Record]:
    """The images of the given ids, whoever owns them."""
    return {image["id"]: _record(image, _parts(image)) for image in images_by_id(source, ids).values()}


def adapt(search: Search, records: Sequence[Record]) -> list[Record]:
    """The records with notes on whom they cannot be shared with now."""
    twins = _member_twins(search.destination, [record.data for record in records])
    return [replace(record, notes=(*record.notes, *_unshared(record.data, twins))) for record in records]


def find(search: Search, records: Sequence[Record]) -> Mapping[Ref, list[Twin]]:
    """The images that carry the stamp in a tenant that ours can be in; a public one of the same name and hash; else
    those of the same name."""
    destination = search.destination
    foreign = [record for record in records if not _tenants(record)]
    theirs = twin_tenants(destination, {record.data["owner"]: None for record in foreign})
    owners = {record.ref: _owners(search, record, theirs) for record in records}
    listed = {owner: list_images(destination, owner=owner) for owner in set().union(*owners.values())}
    public = list_images(destination, visibility="public") if foreign else []
    twins = _member_twins(destination, [record.data for record in records])
    found = {}
    for record in records:
        there = [image for owner in owners[record.ref] for image in listed[owner]]
        offered = [] if _tenants(record) else public
        found[record.ref] = list(_twins(destination, record, there, offered, twins))
    return found


def _owners(search: Search, record: Record, theirs: Mapping[str, str]) -> set[str]:
    """The tenants of the destination that a twin can be in: anybody can write a stamp into an image of his own.

    theirs: the twins of the tenants that other images belong to.
    """
    if tenants := _tenants(record):
        return {search.ids[ref] for ref in tenants if ref in search.ids}
    owner = record.data["owner"]
    return {search.destination.project_id, *([theirs[owner]] if owner in theirs else ())}


def _members(cloud: Cloud, images: Sequence[Mapping[str, Any]]) -> dict[str, list[Json]]:
    """Whom images are shared with, by the ids of the images: one call for each, because Glance has no list of all."""
    shared = [image["id"] for image in images if image["visibility"] == "shared"]
    with ThreadPoolExecutor() as pool:
        listed = dict(
            zip(shared, pool.map(lambda i: list(cloud.glance.image_members.list(i)), shared), strict=True)
        )
    names = tenant_names(cloud) if any(listed.values()) else {}
    return {
        image["id"]: [
            {"id": m["member_id"], "status": m["status"], "name": names.get(m["member_id"])}
            for m in listed.get(image["id"], ())
        ]
        for image in images
    }


def _member_twins(destination: Cloud, images: Iterable[Json]) -> dict[str, str]:
    """The destination's tenants of those that images are shared with, by the source's."""
    members = [member for data in images for member in data.get("members", ())]
    return twin_tenants(destination, {member["id"]: member.get("name") for member in members})


def _unshared(data: Json, twins: Mapping[str, str]) -> list[str]:
    return [
        f"not shared with tenant {member.get('name') or member['id']}: it is not at the destination; "
        "migrate it, then the tenant of this image again"
        for member in data.get("members", ())
        if member["id"] not in twins
    ]


def tasks(migration: Migration, step: Step) -> list[task.Task]:
    """Read the image, make its record, copy the bytes, close it."""
    ref, title = step.ref, step.record.title
    retrieved, ensured, uploaded = (symbol(ref, verb) for verb in ("retrieved", "ensured", "uploaded"))
    clouds = migration.source, migration.destination
    return [
        retrieve(RetrieveImage, migration, step),
        ensure(EnsureImage, [migration.destination], step, common=is_common(step.record)),
        UploadImage(
            *clouds,
            migration.transfers,
            provides=uploaded,
            rebind=[retrieved, ensured],
            line=f"copy {title}, {size(step.record.size_bytes)}",
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
        """Its fields, and its members."""
        data = self.cloud.batch(fetch).get(resource_id).data
        return {**data, "members": _members(self.cloud, [data])[resource_id]}


class CloseImage(BaseCloudsTask):
    """Sets what can or should only be set when the bytes are there; protection and deactivation last."""

    def execute(self, data: Json, image: Json, uploaded: Json) -> Json:
        """Set what is lacking of visibility, members, properties and tags, then hidden, protection, deactivation.

        Provides notes on what could not be set. Raises TransferError when Glance has not done what it was told.
        """
        images, image_id = self.destination.glance.images, image["id"]
        actual, twins = images.get(image_id), _member_twins(self.destination, [data])
        notes = self._publish(image_id, data["visibility"]) if actual["visibility"] == "private" else []
        if data["visibility"] == "shared" and actual["visibility"] in ("private", "shared"):
            self._share(image_id, [{**m, "id": twins[m["id"]]} for m in data["members"] if m["id"] in twins])
        lacking = {key: value for key, value in data["properties"].items() if key not in actual}
        if not set(data["tags"]) <= set(actual["tags"]):
            lacking["tags"] = sorted({*actual["tags"], *data["tags"]})
        images.update(image_id, **lacking, **{flag: True for flag in FLAGS if data[flag]})
        if data["status"] == "deactivated":
            images.deactivate(image_id)
        wanted = {**data, "visibility": "private"} if notes else data
        if missing := _missing(wanted, images.get(image_id)):
            raise TransferError(
                f"image {data['name']} at the destination is not as it was to be: {missing}", ASK
            )
        return {"id": image_id, "notes": [*notes, *_unshared(data, twins)]}

    def _publish(self, image_id: str, visibility: str) -> list[str]:
        try:
            self.destination.glance.images.update(image_id, visibility=visibility)
        except Exception as error:
            if http_status(error) != 403:
                raise
            return [f"kept private: the destination does not let the operator make an image {visibility}"]
        return []

    def _share(self, image_id: str, members: Iterable[Json]) -> None:
        """Share the image with tenants of the destination, as they have answered at the source."""
        there = self.destination.glance.image_members
        for member in members:
            if member["id"] not in [existing["member_id"] for existing in there.list(image_id)]:
                there.create(image_id, member["id"])
            told = there.update(image_id, member["id"], member["status"])
            as_asked({"member_id": member["id"], "status": member["status"]}, told)


def _missing(data: Json, image: Mapping[str, Any]) -> str:
    """What of a record an image does not have, in words; what somebody has changed of it is not missing."""
    whole = image["visibility"] == data["visibility"] or image["visibility"] != "private"
    lacking = {
        "properties": sorted(data["properties"].keys() - image.keys()),
        "tags": sorted(set(data["tags"]) - set(image["tags"])),
        "visibility": [] if whole else [data["visibility"]],
        "flags": [flag for flag in FLAGS if data[flag] and not image.get(flag)],
        "status": ["deactivated"] if image["status"] != data["status"] == "deactivated" else [],
    }
    return "; ".join(f"{what}: {', '.join(values)}" for what, values in lacking.items() if values)


def _record(image: Mapping[str, Any], needs: tuple[Ref, ...], members: Sequence[Json] = ()) -> Record:
    owned = any(need.kind == "tenant" for need in needs)
    return Record(
        Ref(NAME, image["id"]),
        image.get("name") or "",
        {**image_data(image), "members": list(members)},
        needs,
        size_bytes=image.get("size") or 0,
        notes=tuple(_notes(image)),
        skip=_skip(image),
        answer=image,
        must_exist=""
        if owned or image["visibility"] == "public"
        else "it belongs to another tenant: migrate that first",
    )


def _notes(image: Mapping[str, Any]) -> Iterator[str]:
    if dropped := [key for key in NOVAS if is_snapshot(image) and image.get(key)]:
        yield f"what Nova wrote of its server is not carried: {', '.join(dropped)}"


def _skip(image: Mapping[str, Any]) -> str:
    if image["status"] not in MIGRATABLE:
        return f"its status is {image['status']}: it has no complete data"
    if image.get("block_device_mapping") and not image.get("size"):
        return "it has no bytes: it is the snapshot of a server whose disks are volumes, and names snapshots of them"
    if len(custom_properties(image)) >= QUOTA and len(without_stamps(image["tags"])) >= QUOTA:
        return f"it has {QUOTA} properties and {QUOTA} tags or more, which leaves no room for the stamp: remove one"
    return ""


def _parts(image: Mapping[str, Any]) -> tuple[Ref, ...]:
    return tuple(Ref(NAME, image[key]) for key in ("kernel_id", "ramdisk_id") if image.get(key))


def _tenants(record: Record) -> list[Ref]:
    return [need for need in record.needs if need.kind == "tenant"]


def _twins(
    destination: Cloud,
    record: Record,
    there: Iterable[Mapping[str, Any]],
    public: Iterable[Mapping[str, Any]],
    twins: Mapping[str, str],
) -> Iterator[Twin]:
    """The candidates for a record.

    there: the images of the tenants that its twin can be in.
    public: those that can be it without a stamp, by name and hash.
    twins: the destination's tenants of those that it is shared with.
    """
    stamped = {image["id"]: image for image in there if is_twin(image, record.data)}
    for image in stamped.values():
        unfinished = _unfinished(destination, record, image, twins)
        found = (*_differences(record, image), *_unshared(record.data, twins))
        yield Twin(str(image["id"]), ours=True, differences=found, unfinished=unfinished)
    same_name = [image for image in (*there, *public) if image["name"] == record.name]
    for image in {image["id"]: image for image in same_name if image["id"] not in stamped}.values():
        if _tenants(record):
            # What carries the stamp of another, is another's.
            if not stamp_of(image):
                yield Twin(str(image["id"]), ours=False, differences=_differences(record, image))
        elif image["visibility"] == "public" and not content_differences(record.data, image):
            yield Twin(str(image["id"]), ours=True, differences=_differences(record, image))


def _differences(record: Record, image: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        *differences(record.data, {"os_hidden": False, **image}, FIELDS),
        *content_differences(record.data, image),
    )


def _unfinished(
    destination: Cloud, record: Record, image: Mapping[str, Any], twins: Mapping[str, str]
) -> str:
    """What is left to do for an image that a migration made; empty when it is nothing."""
    data = record.data
    if image["status"] not in MIGRATABLE:
        return f"its status is {image['status']}"
    if not _tenants(record) and image["owner"] != destination.project_id:
        return ""
    # By default only administrators make an image public; what was refused once is not asked for each time.
    as_allowed = (
        {"visibility": image["visibility"]}
        if data["visibility"] == "public" and not destination.is_admin
        else {}
    )
    if missing := _missing({**data, **as_allowed}, image):
        return f"it lacks {missing}"
    wanted = {twins[m["id"]] for m in data.get("members", ()) if m["id"] in twins}
    if not wanted:
        return ""
    lacking = wanted - {m["member_id"] for m in destination.glance.image_members.list(image["id"])}
    return f"it is not shared with tenant {', '.join(sorted(lacking))}" if lacking else ""


def is_common(record: Record) -> bool:
    """Whether the image is of no tenant that is migrated with it."""
    return not _tenants(record)


def strangers(cloud: Cloud, tenant_id: str) -> list[str]:
    """The images of a tenant that no migration has made."""
    return [
        image["id"]
        for image in list_images(cloud, owner=tenant_id)
        if not stamp_of(image) and not is_disk_of_shelved(cloud, image)
    ]


def find_anywhere(source: Cloud, wanted: Json) -> list[Found]:
    """The images of that id or name, in whichever tenant."""
    return matching(list_images(source, **wanted), wanted, "owner")


def of_others(source: Cloud, tenant_id: str, records: Sequence[Record]) -> dict[Ref, str]:
    """Why images stay when a tenant goes: others own them, or may use them."""
    members = _members(source, [record.data for record in records])
    found = {}
    for record in records:
        if record.data["owner"] != tenant_id:
            found[record.ref] = "another tenant owns it"
        elif record.data["visibility"] in ("public", "community"):
            found[record.ref] = f"it is {record.data['visibility']}: other tenants may use it"
        elif members[record.ref.id]:
            found[record.ref] = "it is shared with other tenants"
    return found


KIND = Kind(
    NAME,
    "image",
    discover,
    fetch,
    find,
    tasks,
    adapt=adapt,
    changed=changed,
    common=is_common,
    nameable=True,
    strangers=strangers,
    find_anywhere=find_anywhere,
    recognised="stamp; public images of others by name and hash",
    unmark=unmark,
    remove=lambda cloud, record: remove(cloud, record.ref.id),
    shared=of_others,
    fields=Fields(
        carried="name disk_format container_format min_disk min_ram status visibility protected os_hidden tags "
        "members/status *",
        mapped={
            "owner": "the tenant's twin",
            "kernel_id": "the image's twin",
            "ramdisk_id": "the image's twin",
            "members/member_id": "the tenant's twin",
            **dict.fromkeys(
                NOVAS, "as it is; not what Nova wrote of a server into the snapshot of it, with a note"
            ),
        },
        derived="id created_at updated_at size virtual_size checksum os_hash_algo os_hash_value file self schema "
        "direct_url locations stores os_glance_* pumphouse_source_id pumphouse_attempt pumphouse_server_id "
        "pumphouse_volume_id members/image_id members/created_at members/updated_at members/schema",
        noted={
            **dict.fromkeys(
                SIGNATURE,
                "its signature is not carried: the key lies in the source's Barbican; sign it again",
            ),
            **dict.fromkeys(
                ENCRYPTION,
                "{name} is not carried: its bytes are encrypted, and the key lies in the source's Barbican; "
                "retype the volume that it was made of, and upload that",
            ),
            "block_device_mapping": "its block device mapping is not carried: it names snapshots of the source",
        },
        summary="every custom property; bytes; a deactivated one is deactivated; members that are at the destination",
    ),
)

"""What is beside an image: an SBOM (SPDX 2.3), and the entry of Raspberry Pi Imager's list. Values in, JSON out."""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable

from cardimage.packages import Packed


def spdx(image: str, packages: Iterable[Packed], epoch: int) -> str:
    """The packages of an image; the document's name space follows from them, so that the same image has the same document."""
    listed = [
        {
            "SPDXID": f"SPDXRef-{_identifier(p.name)}",
            "name": p.name,
            "versionInfo": p.version,
            "downloadLocation": "NOASSERTION",
            "filesAnalyzed": False,
            "supplier": "Organization: KubeEdge" if p.source == "kubeedge" else "Organization: Debian",
            "externalRefs": [
                {
                    "referenceCategory": "PACKAGE-MANAGER",
                    "referenceType": "purl",
                    "referenceLocator": f"pkg:deb/debian/{p.name}@{p.version}?arch={p.architecture}&upstream={p.source}",
                }
            ],
        }
        for p in packages
    ]
    space = hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:32]
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": image,
        "documentNamespace": f"https://kubeedge.io/spdx/{image}-{space}",
        "creationInfo": {"created": _time(epoch), "creators": ["Tool: cardimage"]},
        "packages": listed,
        "relationships": [
            {"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": p["SPDXID"]}
            for p in listed
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def imager(
    *,
    name: str,
    description: str,
    file: str,
    packed: bytes,
    size: int,
    sha256: str,
    epoch: int,
    devices: Iterable[str] = (),
) -> str:
    """`packed`: the compressed image; `size` and `sha256`: those of the uncompressed one; `devices`: the boards, by Imager's names. Its address
    is relative: whoever publishes it says where."""
    entry = {
        "name": name,
        "description": description,
        "url": file,
        "release_date": _time(epoch)[:10],
        "extract_size": size,
        "extract_sha256": sha256,
        "image_download_size": len(packed),
        "image_download_sha256": hashlib.sha256(packed).hexdigest(),
        "devices": list(devices),
        "init_format": "none",
    }
    return json.dumps({"os_list": [entry]}, indent=1) + "\n"


def _time(epoch: int) -> str:
    return datetime.datetime.fromtimestamp(epoch, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() or c in ".-" else "-" for c in name)

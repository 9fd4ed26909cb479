"""What the image is made of, as SPDX 2.3 (ISO/IEC 5962) in JSON."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Sequence
from typing import Any

from cloud.image.debian import Package


def document(name: str, debian: Sequence[Package], python: Sequence[tuple[str, str, str]], epoch: int) -> bytes:
    """`python`: name, version, license of each distribution; `epoch`: seconds since 1970, when it is said to be made."""
    packages = [_debian(package) for package in debian] + [_python(*each) for each in python]
    digest = hashlib.sha256(json.dumps(packages).encode()).hexdigest()
    return json.dumps(
        {
            "spdxVersion": "SPDX-2.3",
            "dataLicense": "CC0-1.0",
            "SPDXID": "SPDXRef-DOCUMENT",
            "name": name,
            "documentNamespace": f"https://kubeedge.io/spdx/{re.sub(r'[^a-zA-Z0-9.-]', '-', name)}-{digest}",
            "creationInfo": {
                "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
                "creators": ["Tool: kubeedge-cloud-image"],
            },
            "packages": packages,
            "relationships": [
                {
                    "spdxElementId": "SPDXRef-DOCUMENT",
                    "relationshipType": "DESCRIBES",
                    "relatedSpdxElement": package["SPDXID"],
                }
                for package in packages
            ],
        },
        indent=1,
    ).encode()


def _debian(package: Package) -> dict[str, Any]:
    return {
        **_package(f"deb-{package.name}", package.name, package.version, "NOASSERTION"),
        "sourceInfo": f"built from {package.source}; licenses: /usr/share/doc/{package.name}/copyright",
        "checksums": [{"algorithm": "SHA256", "checksumValue": package.sha256}],
        "externalRefs": [_purl(f"pkg:deb/debian/{package.name}@{package.version}?arch={package.architecture}")],
    }


def _python(name: str, version: str, license: str) -> dict[str, Any]:
    return {
        **_package(f"pypi-{name}", name, version, license),
        "externalRefs": [_purl(f"pkg:pypi/{name.lower().replace('_', '-')}@{version}")],
    }


def _package(reference: str, name: str, version: str, license: str) -> dict[str, Any]:
    return {
        "SPDXID": "SPDXRef-" + re.sub(r"[^a-zA-Z0-9.-]", "-", reference),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": license,
        "filesAnalyzed": False,
    }


def _purl(locator: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}

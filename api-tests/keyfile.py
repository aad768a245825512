"""Key files for tests, written here from the format's description alone (server/access.h)."""

import hashlib
import json
import secrets


def make_key(id, tenant, **more):
    """(the key as clients send it, its record)"""
    secret, salt = secrets.token_hex(32), secrets.token_bytes(16)
    digest = hashlib.sha256(salt + secret.encode()).hexdigest()
    record = {"id": id, "tenant": tenant, "salt": salt.hex(), "sha256": digest, **more}
    return f"fathom_{id}.{secret}", record


def write_file(path, tenants, keys, mode=0o600):
    text = json.dumps({"tenants": tenants, "keys": keys})
    path.touch(mode=0o600)
    path.write_text(text)
    path.chmod(mode)
    return path


def make_file(path, *tenants, **fields):
    """A file of tenants (names, or objects) with one key each, which it returns in their order."""
    objects = [{"name": t} if isinstance(t, str) else t for t in tenants]
    made = [make_key(f"key-{i}", t["name"], **fields) for i, t in enumerate(objects)]
    write_file(path, objects, [record for _, record in made])
    return [key for key, _ in made]

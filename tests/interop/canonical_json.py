"""Hashes of JSON values: BLAKE3 over their RFC 8785 form."""
import json

import numpy as np
from blake3 import blake3


def number(x):
    """As JavaScript prints it: where Python writes 10.0 or 1e-05, it writes 10 and 0.00001."""
    if x == int(x):
        return str(int(x))
    return np.format_float_positional(x) if abs(x) >= 1e-6 else repr(x).replace("e-0", "e-")


def canonical(value):
    """The form of a value with ASCII keys and numbers below 10^21."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number(value) if is_number else json.dumps(value, ensure_ascii=False)


def hash_of(value):
    return blake3(canonical(value).encode()).hexdigest()


assert canonical({"b": [10.0, 1e-05, 2.5e-07, None], "a": False}) == '{"a":false,"b":[10,0.00001,2.5e-7,null]}'

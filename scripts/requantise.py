"""Writes a GGUF model with its matrices in another number format, to see with `logitcask eval` what that costs.

    pip install gguf && python scripts/requantise.py MODEL.gguf Q4_0 OUT.gguf

Matrices are dequantised and quantised again, vectors and all metadata stay as they are. Formats: F32, F16, BF16, Q8_0, Q4_0, Q4_1,
Q5_0, Q5_1.
"""
import sys

import gguf

source, format_name, target = sys.argv[1:]
to = gguf.GGMLQuantizationType[format_name]
reader = gguf.GGUFReader(source)
fields = {name: field for name, field in reader.fields.items() if not name.startswith("GGUF.")}
writer = gguf.GGUFWriter(target, fields.pop("general.architecture").contents())
for name, field in fields.items():
    if name in ("general.quantization_version", "general.file_type"):
        continue
    kind, *of = field.types
    writer.add_key_value(name, field.contents(), kind, sub_type=of[-1] if of else None)
for tensor in reader.tensors:
    values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    is_matrix = len(tensor.shape) > 1
    data = gguf.quants.quantize(values, to) if is_matrix else values
    writer.add_tensor(tensor.name, data, raw_dtype=to if is_matrix else None)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

"""Weight files of every origin: opening, identifying, assigning to modules, writing. No networks."""

# What users call the precisions, in commands, nodes and files; torch's own names for them.
DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
# The same for weights stored in 8 bits, see `quantized`.
QUANTIZED = {"fp8": "float8_e4m3fn", "int8": "int8"}

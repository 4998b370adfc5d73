/**
 * Types of the tensors that exported graphs use, and their numbers in ONNX's TensorProto. Runtimes for browsers lack others:
 * bfloat16, float64, uint16.
 */
export const dataTypes = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
} as const

/** The name of an element type. */
export type DataType = keyof typeof dataTypes

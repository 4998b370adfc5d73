/** The names that the weights of a checkpoint folder go by. */
export const CONFIG_FILE = 'config.json'
export const SINGLE_WEIGHTS_FILE = 'model.safetensors'
export const WEIGHTS_INDEX_FILE = 'model.safetensors.index.json'

/** `model-00001-of-00003.safetensors` for shard 1 of 3. */
export function shardFile(shard: number, shards: number): string {
  const padded = (n: number) => String(n).padStart(5, '0')
  return `model-${padded(shard)}-of-${padded(shards)}.safetensors`
}

/** Whether `name` is one that the weights of a model go by, or their index; adapters and the like have other names. */
export function isWeightsFile(name: string): boolean {
  return name === WEIGHTS_INDEX_FILE || /^model(-\d+-of-\d+)?\.safetensors$/.test(name)
}

/** Whether `name` names a file directly inside a folder, on every operating system: no path, no drive, no `..`. */
export function isPlainFileName(name: string): boolean {
  if (name === '' || name === '.' || name === '..' || name.includes('\0')) return false
  return !/[\\/]|^[A-Za-z]:/.test(name)
}

/** Formats of weights, other than safetensors, that model folders hold. */
const OTHER_WEIGHTS = /\.(bin|pt|pth|ckpt|gguf|ggml|onnx|msgpack|h5|npz|tflite|pkl)$/i

/** Whether `name` looks like weights in a format that is not read. */
export function isOtherWeightsFile(name: string): boolean {
  return OTHER_WEIGHTS.test(name) && name !== 'training_args.bin'
}

const COMPANION_EXTENSIONS = /\.(json|txt|model|jinja|tiktoken|spm|vocab|codes|md|py)$/i
const COMPANION_STEMS = /^(tokenizer\.|licen[cs]e|notice|copying|use_policy|readme)/i

/**
 * Whether `name` is a file that belongs beside the weights in any copy of a model: tokenizer, generation settings,
 * chat template, model card, licence. Weights of any format, their index and `config.json` are not.
 */
export function isCompanionFile(name: string): boolean {
  if (name === CONFIG_FILE || name.startsWith('.') || name.endsWith('.index.json')) return false
  if (name.endsWith('.safetensors') || OTHER_WEIGHTS.test(name)) return false
  return COMPANION_EXTENSIONS.test(name) || COMPANION_STEMS.test(name)
}

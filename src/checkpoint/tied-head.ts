import { CheckpointError, GptvqError } from '../common/errors.js'
import { describeDecoder } from '../model/families/index.js'
import { isFloatDtype } from './dtype.js'
import type { Checkpoint } from './model-folder.js'
import { fileIn } from './model-source.js'

/** Values of each of the two that are compared at a time. */
const VALUES_AT_ONCE = 2 ** 22

/**
 * A checkpoint as it is meant where its head is tied to its embedding, and the head is stored too: without the copy. The
 * head alone stands for both. All others come back as they are.
 *
 * @throws CheckpointError when the two hold different values
 */
export async function withTiedHead(checkpoint: Checkpoint): Promise<Checkpoint> {
  const { tensors, folder, files } = checkpoint
  const tied = tiedTensors(checkpoint)
  if (tied === undefined) return checkpoint
  const { embedding, head } = tied
  if (!tensors.has(head)) return checkpoint
  if (!tensors.has(embedding) && !isQuantized(checkpoint, embedding)) return headAsEmbedding(checkpoint, tied)
  if (!(await holdSame(checkpoint, tied))) {
    throw new CheckpointError(
      `${folder}: ${head} is stored beside ${embedding} and holds other values, but ${fileIn(files, 'config.json')} says ` +
        'that the two are one tensor (tie_word_embeddings), and releases of transformers differ in which they use. ' +
        `Set tie_word_embeddings to false there if ${head} is meant, or else remove ${head} from the weights`,
    )
  }
  return { ...checkpoint, tensors: new Map([...tensors].filter(([name]) => name !== head)) }
}

interface TiedTensors {
  readonly embedding: string
  /** The name that the head has in models where it is a tensor of its own. */
  readonly head: string
}

/** Undefined where nothing is tied, or nothing is known of the model: whatever runs it says why. */
function tiedTensors({ config, files }: Checkpoint): TiedTensors | undefined {
  const where = fileIn(files, 'config.json')
  try {
    const { embedding, head } = describeDecoder(config, where)
    if (head.tensor !== embedding.tensor) return undefined
    const untied = describeDecoder({ ...config, tie_word_embeddings: false }, where)
    return { embedding: embedding.tensor, head: untied.head.tensor }
  } catch (error) {
    if (error instanceof GptvqError) return undefined
    throw error
  }
}

function isQuantized({ config }: Checkpoint, name: string): boolean {
  const { modules } = (config.quantization_config ?? {}) as { modules?: Record<string, unknown> }
  return Object.hasOwn(modules ?? {}, name.slice(0, -'.weight'.length))
}

function headAsEmbedding(checkpoint: Checkpoint, { embedding, head }: TiedTensors): Checkpoint {
  const stored = (name: string) => (name === embedding ? head : name)
  return {
    ...checkpoint,
    tensors: new Map(
      Array.from(checkpoint.tensors, ([name, info]) =>
        name === head ? [embedding, { ...info, name: embedding }] : [name, info],
      ),
    ),
    readBytes: (name) => checkpoint.readBytes(stored(name)),
    readFloats: (name) => checkpoint.readFloats(stored(name)),
    readRows: (name, first, count) => checkpoint.readRows(stored(name), first, count),
  }
}

/** Compares in pieces: either of the two may be of gigabytes. */
async function holdSame(
  { tensors, readRows }: Checkpoint,
  { embedding, head }: TiedTensors,
): Promise<boolean> {
  const [own, other] = [tensors.get(embedding), tensors.get(head)]
  if (own === undefined || other === undefined) return false
  if (own.shape.length !== 2 || own.shape.join() !== other.shape.join()) return false
  if (!isFloatDtype(own.dtype) || !isFloatDtype(other.dtype)) return false
  const [rows, cols] = own.shape
  const rowsAtOnce = Math.max(1, Math.floor(VALUES_AT_ONCE / cols))
  for (let first = 0; first < rows; first += rowsAtOnce) {
    const count = Math.min(rowsAtOnce, rows - first)
    const values = await readRows(embedding, first, count)
    const others = await readRows(head, first, count)
    if (values.some((value, i) => !Object.is(value, others[i]))) return false
  }
  return true
}

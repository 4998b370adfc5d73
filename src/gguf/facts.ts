import type { GgufArchitecture } from './architectures.js'
import type { GgufFile } from './read-gguf.js'

/** What a file says, with the architecture's prefix put before each key. */
export interface GgufFacts {
  readonly file: GgufFile
  readonly architecture: GgufArchitecture
  number(key: string): number
  optional(key: string): number | undefined
  /** Whether there is a tensor of this name. */
  has(tensor: string): boolean
}

/** The facts of a file of this architecture. */
export function factsOf(file: GgufFile, architecture: GgufArchitecture): GgufFacts {
  const { metadata, tensors } = file
  const key = (name: string) => `${architecture.name}.${name}`
  return {
    file,
    architecture,
    number: (name) => metadata.number(key(name)),
    optional: (name) => metadata.optionalNumber(key(name)),
    has: (tensor) => tensors.has(tensor),
  }
}

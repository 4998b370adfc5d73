import type { ModelSource } from '../checkpoint/model-source.js'
import type { TensorSource } from '../checkpoint/tensor-source.js'
import { describeDecoder } from '../model/families/index.js'
import { configOfGguf, readArchitecture } from './config-of-gguf.js'
import { openGguf } from './read-gguf.js'
import { ggufTensors } from './tensor-names.js'
import { ggufTensorSource } from './tensor-source.js'
import { type TokenizerFiles, tokenizerOfGguf } from './tokenizer/tokenizer-of-gguf.js'

/** A GGUF file seen as a model folder. */
export interface GgufModel extends TensorSource {
  /** What its `config.json` would say. */
  readonly config: Record<string, unknown>
  /** Its tokenizer and the like, as the files they would be; undefined until asked for, for a tokenizer takes a second. */
  files(): TokenizerFiles
}

/**
 * One of the small files of a model folder, made of the metadata of a GGUF file; undefined when there is none of that name.
 *
 * @throws CheckpointError when the file is missing or damaged; UnsupportedError when its tokenizer is of a kind that is not
 *   read
 */
export async function ggufModelText(model: ModelSource, name: string): Promise<string | undefined> {
  return tokenizerOfGguf((await openGguf(model)).metadata).get(name)
}

/**
 * Opens a GGUF file as a model: the configuration and the names of the tensors as the hub has them, weights dequantized
 * when they are read.
 *
 * @throws CheckpointError when the file is missing or damaged; UnsupportedError when it is of a kind that is not read
 */
export async function openGgufModel(model: ModelSource): Promise<GgufModel> {
  const file = await openGguf(model)
  try {
    const config = await configOfGguf(file)
    const decoder = describeDecoder(config, model.place)
    const named = ggufTensors(decoder, { ...readArchitecture(file), ownHead: false })
    let files: TokenizerFiles | undefined
    return {
      ...ggufTensorSource(file, named),
      config,
      files: () => {
        files ??= tokenizerOfGguf(file.metadata)
        return files
      },
    }
  } catch (error) {
    await file.close()
    throw error
  }
}

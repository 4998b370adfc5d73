/** How llama.cpp names and lays out a family. */
export interface GgufArchitecture {
  /** `general.architecture`, and what its keys begin with. */
  readonly name: string
  /** `model_type` of the families that are written so; the first is what a file is read as. */
  readonly families: readonly string[]
  /** Rows of queries and keys are ordered for a rotation of neighbours, not of halves of a head. */
  readonly neighbours: boolean
  /** A norm's epsilon is that of LayerNorm. */
  readonly layerNorm: boolean
  /** A file has an output projection though it is the embedding. */
  readonly ownHead: boolean
}

const architecture = (
  name: string,
  families: readonly string[],
  traits: Partial<Omit<GgufArchitecture, 'name' | 'families'>> = {},
): GgufArchitecture => ({ name, families, neighbours: false, layerNorm: false, ownHead: false, ...traits })

/** The architectures that are read and written. */
export const ggufArchitectures: readonly GgufArchitecture[] = [
  architecture('llama', ['llama', 'mistral', 'mixtral'], { neighbours: true }),
  architecture('qwen2', ['qwen2']),
  architecture('qwen3', ['qwen3']),
  architecture('phi3', ['phi3']),
  architecture('gemma', ['gemma']),
  architecture('gemma2', ['gemma2']),
  architecture('gemma3', ['gemma3_text']),
  architecture('olmo2', ['olmo2', 'olmo3'], { ownHead: true }),
  architecture('smollm3', ['smollm3'], { neighbours: true }),
  architecture('granite', ['granite'], { neighbours: true }),
  architecture('stablelm', ['stablelm'], { layerNorm: true, ownHead: true }),
  architecture('gptneox', ['gpt_neox'], { layerNorm: true, ownHead: true }),
  architecture('qwen2moe', ['qwen2_moe'], { ownHead: true }),
  architecture('qwen3moe', ['qwen3_moe']),
  architecture('olmoe', ['olmoe'], { ownHead: true }),
]

/** The architecture that a family is written as. */
export function architectureOfFamily(family: string): GgufArchitecture | undefined {
  return ggufArchitectures.find(({ families }) => families.includes(family))
}

import { withMembers, withoutScores, withTags, writeCard } from '../pipeline/folders/card-matter.js'
import type { Inspection } from '../pipeline/folders/inspect-model.js'

/** What was measured of a model: what `gptvq eval --json` prints. */
export interface CardScores {
  /** Of the model. */
  readonly perplexity: number
  /** From the reference, in nats per token; left out: not measured. */
  readonly klDivergence?: number | null
  /** Share of positions where both rank the same token first. */
  readonly top1Agreement?: number | null
  /** Of the model it was made of, on the same text. */
  readonly reference?: {
    /** Its perplexity. */
    readonly perplexity: number
  }
}

/** What a model card tells. */
export interface CardFacts {
  /** On the hub, `org/name`. */
  readonly repo: string
  /** The model it was made of, on the hub; left out: what the folder's own card says. */
  readonly baseModel?: string | undefined
  /** As the hub spells it, e.g. `'apache-2.0'`; left out: what the folder's own card says. */
  readonly license?: string | undefined
  /** What the folder holds; undefined for one with an ONNX graph alone. */
  readonly inspection?: Inspection | undefined
  /** Bytes of all files. */
  readonly bytes: number
  /** Whether there is an ONNX graph. */
  readonly isOnnx: boolean
  readonly scores?: CardScores | undefined
  /** The front matter of the folder's own card. */
  readonly matter: ReadonlyMap<string, string>
  /** A section on how it was made, empty where that is not known. */
  readonly made?: string
}

/** The README.md of a model on the hub: metadata that the hub reads, figures, and how to load it in each runtime. */
export function modelCard(facts: CardFacts): string {
  const { repo, baseModel } = facts
  const source = baseModel === undefined ? '' : ` of [${baseModel}](https://huggingface.co/${baseModel})`
  const text = [
    '',
    `# ${repo.split('/')[1]}`,
    '',
    `A ${facts.inspection?.method ? 'quantized copy' : 'copy'}${source}, made with gptvq.`,
    '',
    ...figures(facts),
    '',
    '## How to use it',
    '',
    ...usage(facts),
    ...(facts.made ? ['', facts.made] : []),
    '',
  ].join('\n')
  return writeCard({ matter: frontMatter(facts), text })
}

/** What the folder's own card says, but for what is known better here. */
function frontMatter({ baseModel, license, inspection, isOnnx, matter }: CardFacts): Map<string, string> {
  const method = inspection?.method
  const isStandardLicense = license !== undefined && license !== 'other'
  const library = isOnnx ? 'transformers.js' : method ? 'gptvq' : 'transformers'
  const members = withMembers(method || isOnnx ? withoutScores(matter) : matter, {
    // a base that is not given stays what the folder's card says: it may be that of the model that was quantized
    ...(baseModel !== undefined && {
      base_model: baseModel,
      base_model_relation: method ? 'quantized' : undefined,
    }),
    ...(license !== undefined && { license }),
    // names of a licence that this one is not
    ...(isStandardLicense && { license_name: undefined, license_link: undefined }),
    ...(!matter.has('pipeline_tag') && { pipeline_tag: 'text-generation' }),
    library_name: library,
  })
  return withTags(members, [...(method ? ['gptvq', method] : []), ...(isOnnx ? ['onnx'] : [])])
}

function figures({ inspection, bytes, scores }: CardFacts): string[] {
  const rows: [string, string][] = []
  if (inspection?.method) {
    rows.push(['method', inspection.method])
    const bits = inspection.quantizedBitsPerValue
    if (bits !== null) rows.push(['bits per quantized weight', bits.toFixed(3)])
    const formats = new Set(inspection.weights.filter((one) => one.quantized).map((one) => one.format))
    rows.push(['stored as', [...formats].slice(0, 4).join('; ')])
  }
  rows.push(['size', `${(bytes / 1e6).toFixed(1)} MB`])
  if (scores) {
    const { perplexity, reference, klDivergence, top1Agreement } = scores
    const before = reference ? `, ${reference.perplexity.toPrecision(5)} before` : ''
    rows.push(['perplexity', `${perplexity.toPrecision(5)}${before}`])
    if (typeof klDivergence === 'number')
      rows.push(['KL divergence, nats per token', klDivergence.toPrecision(3)])
    if (typeof top1Agreement === 'number') {
      rows.push(['same likeliest token', `${(100 * top1Agreement).toFixed(1)} %`])
    }
  }
  return ['| | |', '| --- | --- |', ...rows.map(([name, value]) => `| ${name} | ${value} |`)]
}

function usage({ repo, inspection, isOnnx }: CardFacts): string[] {
  const sh = (...lines: string[]) => ['```sh', ...lines, '```']
  const parts: string[][] = []
  if (isOnnx) {
    parts.push([
      'In transformers.js:',
      '',
      '```js',
      "import { pipeline } from '@huggingface/transformers'",
      '',
      `const generate = await pipeline('text-generation', '${repo}')`,
      "console.log(await generate('Once upon a time', { max_new_tokens: 32 }))",
      '```',
    ])
  }
  if (inspection) {
    parts.push(['With gptvq:', '', ...sh(`npx gptvq run ${repo}`, `npx gptvq serve ${repo}`)])
  }
  if (inspection?.method) {
    parts.push([
      'In other runtimes:',
      '',
      ...sh(
        `npx gptvq export ${repo} --format onnx --out models/my-model   # transformers.js, onnxruntime`,
        `npx gptvq export ${repo} --format gguf --out model.gguf        # llama.cpp`,
        `npx gptvq dequantize ${repo} --out path/to/plain               # Python transformers`,
      ),
    ])
  }
  return parts.flatMap((part, i) => (i === 0 ? part : ['', ...part]))
}

import { pushFlags } from '../flags/push-flags.js'
import { defineCommand } from '../parse/command.js'
import { formatBytes, formatCount } from '../terminal/format.js'

/** `gptvq push DIR org/name` */
export const pushCommand = defineCommand({
  name: 'push',
  argument: 'DIR',
  second: 'NAME',
  summary: 'upload a model folder to the Hugging Face hub, with a model card',
  about:
    'Adds the files of a model folder (quantized, plain, or exported as ONNX) to org/name in one commit, and makes the ' +
    'model where there is none; weights that were there under other names are removed by the same commit. The model card tells what it was made of, licence, method, bits, sizes, scores, and how ' +
    'to load it in each runtime. HF_TOKEN must be a token that may write; HF_ENDPOINT is the hub.',
  examples: [
    'push ./my-model-2bit org/my-model-gptvq --base-model org/my-model --license apache-2.0',
    'push ./my-model-onnx org/my-model-onnx --base-model org/my-model --private',
  ],
  flags: pushFlags,
  async run(model, options, { second, onProgress, signal }) {
    const { pushModel } = await import('../../export/push-model.js')
    const pushed = await pushModel({ model, repo: second ?? '', ...options, onProgress, signal })
    const { url, commit, files, bytes, removed } = pushed
    const what = `${formatCount(files.length, 'file')}, ${formatBytes(bytes)}, commit ${commit}`
    const gone = removed.length === 0 ? '' : ` Old weights were removed: ${removed.join(', ')}.`
    return { json: { model, ...pushed }, text: `${model} is on ${url}: ${what}.${gone}` }
  },
})

import type { PushModelOptions } from '../../export/push-model.js'
import type { FlagsOf } from './flags.js'

/** The flags of `gptvq push`. */
export const pushFlags = {
  baseModel: {
    kind: 'text',
    help: 'the model it was made of, org/name; for the model card',
    default: "what the folder's own README.md says",
  },
  license: {
    kind: 'text',
    help: 'its licence as the hub spells it, e.g. apache-2.0',
    default: "that of the folder's own README.md",
  },
  scores: {
    kind: 'path',
    value: 'FILE',
    help: 'what gptvq eval --json printed; its figures go into the model card',
  },
  card: { kind: 'path', value: 'FILE', help: 'a file to be the model card', default: 'one is generated' },
  private: { kind: 'switch', help: 'a model that is made is private' },
  message: { kind: 'text', help: 'of the commit', default: 'Upload with gptvq' },
} as const satisfies FlagsOf<Omit<PushModelOptions, 'repo' | 'patience'>>

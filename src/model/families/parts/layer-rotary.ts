import type { RotaryDescription } from '../../decoder/description.js'
import type { LayerKind } from './layer-kinds.js'
import type { ConfigReader } from './read-config.js'
import { rotaryOf } from './rotary-settings.js'

/**
 * Rotary positions that differ between layers that see all and layers that see a window, as transformers reads them:
 * `rope_parameters` holds a section for each kind; a `rope_scaling` is added to that of layers that see all.
 *
 * @param options `full` and `sliding` give the bases of sections that state none
 */
export function readRotaryByKind(
  read: ConfigReader,
  options: {
    readonly headDim: number
    readonly maxPositions: number
    readonly full: number
    readonly sliding: number
  },
): Readonly<Record<LayerKind, RotaryDescription>> {
  const sections = read.section('rope_parameters') ?? {}
  const known = ['full_attention', 'sliding_attention', 'truncate']
  const other = Object.keys(sections).find((key) => !known.includes(key))
  if (other !== undefined) {
    read.refuse(
      `rope_parameters.${other}`,
      sections[other],
      'a section full_attention and a section sliding_attention',
    )
  }
  const sectionOf = (kind: LayerKind) => {
    const found = sections[kind] ?? {}
    const usable = typeof found === 'object' && !Array.isArray(found)
    return usable
      ? (found as Record<string, unknown>)
      : read.fail(`rope_parameters.${kind}`, found, 'an object')
  }
  const scaling = read.section('rope_scaling')
  if (scaling?.type !== undefined && scaling.rope_type === undefined && Object.keys(sections).length === 0) {
    // transformers 4 reads this, 5 takes the kind to be default
    read.refuse('rope_scaling.type', scaling.type, 'the same as rope_type')
  }
  const rotary = (section: Record<string, unknown>, name: string, theta: number) =>
    rotaryOf(read, section, name, { ...options, truncateFrom: sections, theta })
  const full = { ...sectionOf('full_attention'), ...scaling }
  const name = scaling === undefined ? 'rope_parameters.full_attention' : 'rope_scaling'
  const sliding = sectionOf('sliding_attention')
  return {
    full_attention: rotary(full, name, options.full),
    sliding_attention: rotary(sliding, 'rope_parameters.sliding_attention', options.sliding),
  }
}

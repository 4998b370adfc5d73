import type { ConfigReader } from './read-config.js'

/** What a layer sees: all tokens before it, or a window of them. */
export type LayerKind = 'full_attention' | 'sliding_attention'

/** `layer_types`, or what `usual` says of layer `index` where there is no such list. */
export function readLayerKinds(
  read: ConfigReader,
  layers: number,
  usual: (index: number) => LayerKind,
): readonly LayerKind[] {
  const kinds: readonly LayerKind[] = ['full_attention', 'sliding_attention']
  return read.list('layer_types', layers, kinds) ?? Array.from({ length: layers }, (_, index) => usual(index))
}

/** The window of a layer; without one it sees all tokens before it. */
export interface Window {
  readonly window?: number
}

/** The window of each layer. Layers with one need a size: `window` undefined is an error then, that of what left it out. */
export function windowsOf(
  read: ConfigReader,
  kinds: readonly LayerKind[],
  window: number | undefined,
): readonly Window[] {
  if (window === undefined && kinds.includes('sliding_attention')) {
    if (read.read.has('use_sliding_window') && read.value('use_sliding_window') !== true) {
      read.fail(
        'use_sliding_window',
        read.value('use_sliding_window'),
        'true, as layer_types asks for windows, or a layer_types of full_attention alone',
      )
    }
    read.fail(
      'sliding_window',
      read.value('sliding_window'),
      'a positive whole number, as layer_types asks for windows',
    )
  }
  return kinds.map((kind) => (kind === 'sliding_attention' && window !== undefined ? { window } : {}))
}

/**
 * The windows of the Qwen families and those that follow them: off unless `use_sliding_window`, and then in the layers
 * from `max_window_layers` on, unless `layer_types` says otherwise.
 */
export function readUpperWindows(read: ConfigReader, layers: number): readonly Window[] {
  const window = readSwitchedWindow(read, 4096)
  const from = wholeOr(read, 'max_window_layers', 28)
  const kinds = readLayerKinds(read, layers, (index) =>
    window !== undefined && index >= from ? 'sliding_attention' : 'full_attention',
  )
  return windowsOf(read, kinds, window)
}

/** The window of families whose layers all have one or none; a `layer_types` must say the same. */
export function sameWindow(read: ConfigReader, layers: number, window: number | undefined): Window {
  read.list('layer_types', layers, [window === undefined ? 'full_attention' : 'sliding_attention'])
  return window === undefined ? {} : { window }
}

/** `sliding_window` where `use_sliding_window` turns it on. */
export function readSwitchedWindow(read: ConfigReader, fallback: number | undefined): number | undefined {
  if (read.flag('use_sliding_window', false)) return read.optionalCount('sliding_window', fallback)
  // what a file states of a window that is off may be 0
  read.value('sliding_window')
  return undefined
}

/** A whole number from 0. */
export function wholeOr(read: ConfigReader, name: string, fallback: number): number {
  return read.value(name) === 0 ? 0 : read.count(name, fallback)
}

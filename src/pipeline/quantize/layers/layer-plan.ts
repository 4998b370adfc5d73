import { type ScalarGridOptions, scalarGridOptionNames } from '../../../baselines/scalar-options.js'
import { type OptionNames, refuseUnknown, requirePatterns } from '../../../common/check-option.js'
import { OptionError } from '../../../common/errors.js'
import { nameMatcher } from '../../../common/nearest-name.js'
import { shownValue } from '../../../common/shown-value.js'
import { type VqOptions, vqOptionNames } from '../../../gptvq/options.js'
import type { DecoderDescription } from '../../../model/decoder/description.js'
import { allLinearLayers, type LinearLayer } from '../../../model/decoder/linears.js'
import {
  isCalibrated,
  type MethodSettings,
  type ModelMethodOptions,
  resolveMethod,
} from '../quantize-options.js'

/** Which layers are quantized, and which of them have settings of their own. Patterns are globs over layers' names. */
export interface LayerPlanOptions {
  /**
   * Layers that stay in full precision: `*` stands for any characters, `?` for one, `{a,b}` for one of several, e.g.
   * `'*.down_proj'` or `'model.layers.0.*'`.
   */
  skip?: string | readonly string[]
  /**
   * Settings for the layers that match, over those of all others; of several that match the last one counts for each
   * option. With other `bits` or `vectorDim` the default of `bpv` is that of these.
   */
  set?: readonly LayerSetting[]
}

/** Settings of some layers. */
export interface LayerSetting {
  /** A glob over names, e.g. `'*.v_proj'`. */
  readonly match: string
  /** Settings of `quantizeLayer`; for the methods `'gptq'` and `'rtn'` of `quantizeGptq` and `quantizeRtn`. */
  readonly options: Omit<VqOptions, 'seed'> & ScalarGridOptions
}

type LayerOptions = LayerSetting['options']

const { seed: _, ...ofVectors } = vqOptionNames
const layerOptionNames: OptionNames<LayerOptions> = { ...ofVectors, ...scalarGridOptionNames }
const settingNames: OptionNames<LayerSetting> = { match: true, options: true }

/** The layers to quantize. */
export interface LayerPlan {
  /** In the order of the forward pass. */
  readonly linears: readonly LinearLayer[]
  /** What a layer is quantized with, by the name of its weight; undefined: it stays as it is. */
  settingsOf(name: string): MethodSettings | undefined
}

/**
 * @param settings what layers have that no pattern matches
 * @param options those that `settings` came from
 * @throws OptionError when a pattern matches no layer, when nothing is left to quantize, or for settings that do not fit
 */
export function planLayers(
  config: DecoderDescription,
  settings: MethodSettings,
  options: ModelMethodOptions & LayerPlanOptions,
): LayerPlan {
  const all = allLinearLayers(config)
  const skipped = requirePatterns('skip', options.skip ?? []).map((pattern) => matching('skip', pattern, all))
  const overrides = settingsFrom(options.set).map((setting) => ({
    names: matching('set', setting.match, all),
    options: ownOptions(setting),
  }))
  if (overrides.length > 0 && options.bits === 'mixed') {
    throw new OptionError(
      'set',
      "bits 'mixed' chooses the settings of every layer; leave set out, or keep layers apart with skip",
    )
  }
  const linears = all.filter(({ name }) => !skipped.some((names) => names.has(name)))
  if (linears.length === 0) throw new OptionError('skip', 'leaves no layer to quantize; skip fewer')
  const resolved = new Map<string, MethodSettings>()
  for (const { name } of linears) {
    const own = overrides.filter(({ names }) => names.has(name)).map(({ options }) => options)
    const overriding = () => requireText(settings, overridden(settings, options, Object.assign({}, ...own)))
    resolved.set(name, own.length === 0 ? settings : namingLayer(name, overriding))
  }
  return { linears, settingsOf: (name) => resolved.get(name) }
}

function settingsFrom(set: LayerPlanOptions['set'] = []): readonly LayerSetting[] {
  if (Array.isArray(set) && set.every((setting) => typeof setting === 'object' && setting !== null))
    return set
  throw new OptionError('set', `expected a list of { match, options }, got ${shownValue(set)}`)
}

/** Refuses what would change nothing: names that no layer has an option of. */
function ownOptions(setting: LayerSetting): LayerSetting['options'] {
  refuseUnknown(setting, settingNames)
  const { match, options } = setting
  if (typeof options !== 'object' || options === null) {
    throw new OptionError(
      'set',
      `expected options for '${match}', e.g. { bits: 3 }, got ${JSON.stringify(options)}`,
    )
  }
  refuseUnknown(options, layerOptionNames)
  if ((options.bits as unknown) === 'mixed') {
    throw new OptionError(
      'bits',
      `'mixed' is for all layers together, not for '${match}'; expected a whole number`,
    )
  }
  return options
}

/** An option that is refused for a layer may be fine for all others: errors name it. */
function namingLayer<T>(name: string, resolve: () => T): T {
  try {
    return resolve()
  } catch (error) {
    if (!(error instanceof OptionError)) throw error
    const message = error.message.slice(error.option.length + 2)
    throw new OptionError(error.option, `${message} (set for ${name.replace(/\.weight$/, '')})`)
  }
}

/** A run that looks at no text has no Hessian for a single layer. */
function requireText(shared: MethodSettings, own: MethodSettings): MethodSettings {
  if (isCalibrated(shared) || !isCalibrated(own)) return own
  throw new OptionError(
    'scaleSearch',
    "'sequential-mse' for some layers takes a text that the others do without; search by it in all, and give the " +
      "others scaleSearch 'mse' or 'minmax' of their own",
  )
}

function overridden({ method }: MethodSettings, base: ModelMethodOptions, own: LayerOptions): MethodSettings {
  const { bpv, groupSize, scaleCandidates, ...shared } = base
  const sized = own.bpv !== undefined || own.groupSize !== undefined
  const reshaped = own.bits !== undefined || own.vectorDim !== undefined
  const regrouped = own.granularity !== undefined && own.granularity !== 'group'
  // what was asked for all layers means nothing at another number of bits, or where a whole row shares a scale
  const sizes = sized || regrouped || (reshaped && method === 'gptvq') ? {} : { bpv, groupSize }
  const candidates = own.scaleSearch === 'minmax' ? {} : { scaleCandidates }
  const options = Object.fromEntries(
    Object.entries({ ...shared, ...sizes, ...candidates, ...own }).filter(([, value]) => value !== undefined),
  ) as ModelMethodOptions
  return resolveMethod(method, method === 'rtn' ? withoutText(options) : options)
}

/** A single layer that is rounded plainly has no use for what the run looks at for the others. */
function withoutText(options: ModelMethodOptions): ModelMethodOptions {
  const {
    calibration,
    sequences,
    sequenceLength,
    seed,
    layerOrder,
    driftCorrection,
    tokenWeights,
    ...others
  } = options
  return others
}

function matching(option: string, pattern: string, linears: readonly LinearLayer[]): Set<string> {
  if (typeof pattern !== 'string' || pattern === '') {
    throw new OptionError(option, `expected a pattern such as '*.down_proj', got ${JSON.stringify(pattern)}`)
  }
  const matches = nameMatcher(pattern)
  const names = linears.map(({ name }) => name).filter((name) => matches(name.replace(/\.weight$/, '')))
  if (names.length > 0) return new Set(names)
  const examples = [linears[0], linears[linears.length - 1]].map(({ name }) => name.replace(/\.weight$/, ''))
  throw new OptionError(
    option,
    `the pattern '${pattern}' matches no layer; layers are ${examples[0]} to ${examples[1]}`,
  )
}

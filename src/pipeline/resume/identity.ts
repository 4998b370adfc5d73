import { OptionError } from '../../common/errors.js'
import type { RunRecord } from '../quantize/run-record.js'
import { differencesOf, isWrittenAlike } from './differences.js'

/** All that the bytes of a run's result depend on. */
export interface RunIdentity {
  readonly method: string
  /** The options in force. */
  readonly settings: Readonly<Record<string, unknown>>
  readonly run: RunRecord
  /** SHA-256 of the model's configuration. */
  readonly config: string
}

/**
 * Checks that a run may go on with what another has begun.
 *
 * @param folder where that is
 * @throws OptionError naming all options and inputs that differ
 */
export function requireSameRun(folder: string, before: RunIdentity, now: RunIdentity): void {
  const differences = [
    ...settingsThatDiffer(before, now),
    ...differencesOf(surroundings(before.run), surroundings(now.run)),
    ...inputsThatDiffer(before, now),
  ]
  if (differences.length === 0) return
  throw new OptionError(
    'resume',
    `the unfinished run in ${folder} was begun with ${differences.join(', ')}. Go on with what it was begun with, or ` +
      'remove that folder to begin anew',
  )
}

/** With another method all others differ too. */
function settingsThatDiffer(before: RunIdentity, now: RunIdentity): string[] {
  if (before.method !== now.method) return differencesOf({ method: before.method }, { method: now.method })
  return differencesOf(before.settings, now.settings)
}

function surroundings({ version, node, engine, kernels, products }: RunRecord) {
  return { 'gptvq version': version, 'Node version': node, engine: engine ?? undefined, kernels, products }
}

function inputsThatDiffer(before: RunIdentity, now: RunIdentity): string[] {
  const weights = before.run.weights === now.run.weights ? [] : ['other weights']
  const config = before.config === now.config ? [] : ['another config.json']
  const calibration = isWrittenAlike(before.run.calibration, now.run.calibration)
    ? []
    : [`other calibration (${sourceOf(before.run)}, now ${sourceOf(now.run)})`]
  return [...weights, ...config, ...calibration]
}

function sourceOf({ calibration }: RunRecord): string {
  if (calibration === null) return 'none'
  const { kind, file, sha256 } = calibration
  return [kind, file, sha256?.slice(0, 12)].filter((part) => part !== undefined).join(' ')
}

import type { LayerRatios } from '../mixed/effects.js'
import type { SensitivityState } from '../mixed/sensitivity.js'
import type { SharedBudget } from '../mixed/share-budget.js'
import type { Journal } from './journal.js'
import { readValues, writeValues } from './saved-values.js'

/** How the budget was shared out, where that is done. */
export function keptBudget(journal: Journal | undefined): SharedBudget | undefined {
  const mixed = journal?.state.mixed
  return mixed && { layers: new Map(mixed.layers), report: mixed.report }
}

/** Keeps how the budget was shared out. */
export async function keepBudget(journal: Journal | undefined, budget: SharedBudget): Promise<void> {
  const { layers, report } = budget
  await journal?.save({ mixed: { layers: [...layers], report }, sensitivity: undefined })
}

/** Where the measurement of sensitivities stands, if it has begun. @param values of the gradient */
export async function keptSensitivity(
  journal: Journal | undefined,
  values: number,
): Promise<SensitivityState | undefined> {
  const saved = journal?.state.sensitivity
  if (journal === undefined || saved === undefined) return undefined
  const onOutput = new Float32Array(values)
  await readValues(journal.folder, saved.gradient, [onOutput])
  const measured = saved.measured.map(([name, { errors, ratios }]) => {
    // JSON has null in the place of undefined
    return [name, { errors, ratios: ratios.map((ratio) => ratio ?? undefined) }] as const
  })
  return { next: saved.next, measured: new Map<string, LayerRatios>(measured), onOutput }
}

/** Keeps where the measurement of sensitivities stands. */
export async function keepSensitivity(
  journal: Journal | undefined,
  { next, measured, onOutput }: SensitivityState,
): Promise<void> {
  const gradient = `sensitivity-${next}.gradient`
  const sensitivity = { next, measured: [...measured], gradient }
  await journal?.save({ sensitivity }, { [gradient]: writeValues([onOutput]) })
}

import type { LayerRatios } from '../mixed/effects.js'
import type { SensitivityState } from '../mixed/sensitivity.js'
import type { SharedBudget } from '../mixed/share-budget.js'
import type { Journal } from './journal.js'

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

/** Where the measurement of sensitivities stands, if it has begun. */
export function keptSensitivity(journal: Journal | undefined): SensitivityState | undefined {
  const saved = journal?.state.sensitivity
  if (saved === undefined) return undefined
  const measured = saved.measured.map(([name, { errors, ratios }]) => {
    // JSON has null in the place of undefined
    return [name, { errors, ratios: ratios.map((ratio) => ratio ?? undefined) }] as const
  })
  return { next: saved.next, measured: new Map<string, LayerRatios>(measured) }
}

/** Keeps where the measurement of sensitivities stands. */
export async function keepSensitivity(
  journal: Journal | undefined,
  { next, measured }: SensitivityState,
): Promise<void> {
  await journal?.save({ sensitivity: { next, measured: [...measured] } })
}

import type { Pause } from '../../common/event-loop.js'
import { columnGroupsOf, rowGroupsOf } from '../../packing/vq-layer.js'
import type { PanelState, RowPanel } from '../walk/row-panel.js'
import { closeStrip, openStrip } from './column-strip.js'
import { copyGroup, narrowPanel } from './narrow-panel.js'
import { refineIndices } from './refine-indices.js'
import { refineScales } from './refine-scales.js'
import { updateCodebooks } from './update-codebooks.js'

/** When refinement ends. */
export interface RefinementLimits {
  /** Rounds at most. */
  readonly rounds: number
  /** A row group is done when a round lowers its loss by no more than this share. */
  readonly tolerance: number
  /** Conjugate-gradient steps of the codebooks in a round, at most. */
  readonly codebookSteps: number
}

/**
 * Rounds of block coordinate descent on the true loss `tr((W-Q) H (W-Q)^T)`: column group by column group, indices,
 * codebooks and scales move in turn. No round raises the loss of a row group.
 *
 * @param whole changed in place
 * @param state of the panel, of no use afterwards
 * @param onProgress told the share of all rounds done; they may end sooner
 */
export async function refinePanel(
  whole: RowPanel,
  state: PanelState,
  { rounds, tolerance, codebookSteps }: RefinementLimits,
  pause: Pause,
  onProgress: (done: number) => void = () => {},
): Promise<void> {
  let groups = Array.from({ length: rowGroupsOf(whole.layout) }, (_, group) => group)
  let part = { panel: whole, state }
  for (let round = 0; round < rounds; round++) {
    const before = part.state.losses.slice()
    await refineOnce(part.panel, part.state, codebookSteps, pause, (done) =>
      onProgress((round + done) / rounds),
    )
    const { losses } = part.state
    const going = [...groups.keys()].filter((g) => losses[g] < (1 - tolerance) * before[g])
    if (going.length === groups.length) continue
    if (part.panel !== whole)
      for (const [from, to] of groups.entries()) copyGroup(part.panel, from, whole, to)
    if (going.length === 0) return
    part = narrowPanel(part.panel, part.state, going)
    groups = going.map((g) => groups[g])
  }
  if (part.panel !== whole) for (const [from, to] of groups.entries()) copyGroup(part.panel, from, whole, to)
}

/** One round: indices, codebooks and scales of each column group. */
export async function refineOnce(
  panel: RowPanel,
  state: PanelState,
  codebookSteps: number,
  pause: Pause,
  onProgress: (done: number) => void = () => {},
): Promise<void> {
  const columnGroups = columnGroupsOf(panel.layout)
  for (let columnGroup = 0; columnGroup < columnGroups; columnGroup++) {
    const strip = openStrip(panel, state, columnGroup)
    await refineIndices(strip, pause)
    await updateCodebooks(strip, codebookSteps, pause)
    await refineScales(strip, pause)
    await pause()
    closeStrip(strip, state)
    onProgress((columnGroup + 1) / columnGroups)
  }
}

import type { Coordinator } from '../../../distributed/coordinator.js'
import type { JobInput, JobKind } from '../../../distributed/jobs.js'
import { hasPanels, type PanelRunner, quantizeInPanels } from './layer-panels.js'
import type { LayerRunner, LayerWatch } from './layer-work.js'

/**
 * Has layers quantized by the workers of a coordinator.
 *
 * @param cuts whether large layers go out in panels: a library's product may round a row by how many rows there are
 */
export function teamRunner(coordinator: Pick<Coordinator, 'run'>, cuts: boolean): LayerRunner {
  const run = <T>(kind: JobKind, work: JobInput, { onProgress, signal }: LayerWatch) =>
    coordinator.run(kind, work, { ...(onProgress && { onProgress }), signal }) as Promise<T>
  const parts: PanelRunner = {
    pull: (work, watch) => run('pull', work, watch),
    panel: (work, watch) => run('panel', work, watch),
  }
  return async (work, watch) =>
    cuts && hasPanels(work) ? quantizeInPanels(work, watch, parts) : run('layer', work, watch)
}

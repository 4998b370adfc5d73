import { requireList } from '../common/check-option.js'
/** A point of two costs, less of each is better. */
export interface CostPoint {
  /** Bits per value. */
  readonly bits: number
  /** What it costs otherwise; less is better. */
  readonly cost: number
}

/**
 * The points that no other beats, that is has no more bits and no more cost and less of one, by ascending bits. Of
 * equal points all are kept.
 */
export function paretoFront<P extends CostPoint>(points: readonly P[]): P[] {
  requireList('points', points)
  const ordered = [...points].sort((a, b) => a.bits - b.bits || a.cost - b.cost)
  const front: P[] = []
  for (const point of ordered) {
    const last = front.at(-1)
    const equal = last !== undefined && last.bits === point.bits && last.cost === point.cost
    if (last === undefined || equal || point.cost < last.cost) front.push(point)
  }
  return front
}

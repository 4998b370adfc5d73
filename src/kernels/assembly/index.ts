/** What the host calls: `takeTiles` on its own thread, `work` on every other. */
import { attendTile } from './forward/attention'
import { attendDirectTile } from './forward/attention-direct'
import { shareAttentionTile } from './forward/attention-shares'
import { multiplyBfloatsTile } from './forward/bfloats'
import { assignTile, projectTile } from './clustering/clustering'
import { moveTile, sumTile } from './clustering/clustering-move'
import { gatherColumnTile, plantGroupTile, searchColumnTile } from './clustering/clustering-search'
import { quantizeTile, refineTile } from './clustering/columns'
import { boundPositionTile, plantCodebookTile } from './clustering/columns-search'
import { activateTile, addTile, softCapTile } from './forward/elements'
import { multiplyFewTile } from './forward/few-rows'
import { DONE, KIND, LEFT, LIMIT, PAGES, STOP, scratchOf, TOTAL, WAKE } from './job'
import { packActivationsTile } from './packed/integer-activations'
import { multiplyIntegersTile } from './packed/integer-product'
import { multiplyNibblesTile } from './packed/nibble-product'
import { roundActivationsTile } from './packed/packed-activations'
import { expandPackedTile } from './packed/packed-panel'
import { multiplyPackedTile } from './packed/packed-product'
import { multiplyTablesTile } from './packed/table-product'
import { layStreamsTile } from './packed/trellis-lay'
import { multiplyTrellisTile, writePairsTile } from './packed/trellis-product'
import { multiplyTile, packRight } from './product'
import { normalizeTile, rotateTile } from './forward/rows'
import { compareTile, predictTile, weighTile } from './forward/scores'
import { drawNearTile, sortVectorsTile } from './clustering/seeds-near'
import { drawSeedTile, measureSeedTile } from './clustering/seeds'
import { packTrellisTile, quantizeTrellisTile, refineTrellisTile, searchTrellisTile } from './trellis/trellis'

/**
 * How often an idle worker looks for the next job before it sleeps: waking it takes longer than most pauses. For a tenth of a
 * millisecond in the forward pass, where the jobs of a token follow each other.
 */
const LOOKS: i32 = FORWARD_PASS ? 400000 : 4000

/** Does tiles of the posted job until none is left. Thread 0 is the caller's. */
export function takeTiles(thread: i32): void {
  for (;;) {
    const left = atomic.sub<i32>(LEFT, 1)
    if (left <= 0) return
    const total = atomic.load<i32>(TOTAL)
    // an engine may tell a thread late that another has made the memory larger; bulk operations beyond what it knows trap
    if (memory.size() < load<i32>(PAGES)) memory.grow(0)
    runTile(atomic.load<i32>(KIND), total - left, thread)
    if (atomic.add<i32>(DONE, 1) + 1 == total) atomic.notify(DONE, 1)
  }
}

/** The life of a worker: takes tiles, sleeps, until it is told to stop. */
export function work(thread: i32): void {
  while (!atomic.load<i32>(STOP)) {
    const seen = atomic.load<i32>(WAKE)
    if (thread < atomic.load<i32>(LIMIT)) {
      takeTiles(thread)
      let looks = LOOKS
      while (looks > 0 && atomic.load<i32>(WAKE) == seen) looks--
      if (looks > 0) continue
    }
    atomic.wait<i32>(WAKE, seen, -1)
  }
}

function runTile(kind: i32, tile: i32, thread: i32): void {
  // a constant of the build: what a module does not run is not compiled into it
  if (FORWARD_PASS) return runForwardTile(kind, tile, thread)
  switch (kind) {
    case 0:
      return packRight(tile)
    case 1:
      return multiplyTile(tile, scratchOf(thread))
    case 10:
      return projectTile(tile)
    case 11:
      return assignTile(tile, scratchOf(thread))
    case 12:
      return sumTile(tile)
    case 13:
      return moveTile(tile, scratchOf(thread))
    case 14:
      return measureSeedTile(tile, scratchOf(thread))
    case 15:
      return drawSeedTile(tile)
    case 16:
      return plantGroupTile(tile, scratchOf(thread))
    case 17:
      return gatherColumnTile(tile)
    case 18:
      return searchColumnTile(tile, scratchOf(thread))
    case 20:
      return quantizeTile(tile, scratchOf(thread))
    case 21:
      return refineTile(tile, scratchOf(thread))
    case 22:
      return sortVectorsTile(tile, scratchOf(thread))
    case 23:
      return drawNearTile(tile, scratchOf(thread))
    case 24:
      return plantCodebookTile(tile, scratchOf(thread))
    case 25:
      return boundPositionTile(tile, scratchOf(thread))
    case 40:
      return packTrellisTile(tile)
    case 41:
      return searchTrellisTile(tile, scratchOf(thread))
    case 42:
      return quantizeTrellisTile(tile, scratchOf(thread))
    case 43:
      return refineTrellisTile(tile, scratchOf(thread))
    default:
      unreachable()
  }
}

function runForwardTile(kind: i32, tile: i32, thread: i32): void {
  switch (kind) {
    case 0:
      return packRight(tile)
    case 1:
      return multiplyTile(tile, scratchOf(thread))
    case 2:
      return multiplyFewTile(tile, scratchOf(thread))
    case 30:
      return normalizeTile(tile)
    case 31:
      return attendTile(tile, scratchOf(thread))
    case 32:
      return activateTile(tile)
    case 33:
      return predictTile(tile)
    case 34:
      return compareTile(tile)
    case 45:
      return weighTile(tile)
    case 35:
      return rotateTile(tile)
    case 36:
      return addTile(tile)
    case 37:
      return softCapTile(tile)
    case 38:
      return attendDirectTile(tile, scratchOf(thread))
    case 39:
      return multiplyBfloatsTile(tile)
    case 46:
      return shareAttentionTile(tile)
    case 50:
      return roundActivationsTile(tile, scratchOf(thread))
    case 51:
      return multiplyPackedTile(tile, scratchOf(thread))
    case 52:
      return expandPackedTile(tile, scratchOf(thread))
    case 53:
      return writePairsTile()
    case 57:
      return packActivationsTile(tile, scratchOf(thread))
    case 58:
      return multiplyIntegersTile(tile, scratchOf(thread))
    case 56:
      return layStreamsTile(tile)
    case 55:
      return multiplyNibblesTile(tile, scratchOf(thread))
    case 54:
      return multiplyTrellisTile(tile, scratchOf(thread))
    case 59:
      return multiplyTablesTile(tile, scratchOf(thread))
    default:
      unreachable()
  }
}

/** What an interrupted run has kept, and what the next one goes on with. */
export { keepBlock, keptStreams } from './saved-blocks.js'
export { keepBudget, keepSensitivity, keptBudget, keptSensitivity } from './saved-budget.js'
export { calibrationOf } from './saved-calibration.js'
export { keepEnds, keptEnds } from './saved-ends.js'
export { readLayers, type SavedLayer } from './saved-layers.js'

import type { Calibration } from '../calibrate/calibration.js'

/** What stands in a browser in the place of `kept.ts`: nothing is kept there, so that there is no journal either. */
export function calibrationOf(_: undefined, gather: () => Promise<Calibration>): Promise<Calibration> {
  return gather()
}

const nothing = (): undefined => undefined

export const keptBudget = nothing
export const keptSensitivity = async () => undefined
export const keptEnds = async () => undefined
export const keepEnds = async () => undefined
export const keepBudget = async () => undefined
export const keepSensitivity = async () => undefined
export const keepBlock = nothing
export const keptStreams = nothing
export const readLayers = nothing

/**
 * How far hidden states are from those of a teacher, each token's relative to the size of the teacher's:
 * `|state - target|^2 / |target|^2`, summed over the tokens. A token whose target is 0 has no size to compare with, and
 * counts nothing.
 *
 * @param states tokens x width, row-major
 * @param targets of the same shape
 */
export function hiddenDistance(states: Float32Array, targets: Float32Array, width: number): number {
  let sum = 0
  for (let start = 0; start < states.length; start += width) {
    let distance = 0
    for (let i = start; i < start + width; i++) distance += (states[i] - targets[i]) ** 2
    sum += distance * perSize(targets, start, width)
  }
  return sum
}

/**
 * Adds the gradient of {@link hiddenDistance} on the states.
 *
 * @param onStates tokens x width
 * @param factor what the distance counts
 */
export function addHiddenGradient(
  onStates: Float32Array,
  states: Float32Array,
  targets: Float32Array,
  width: number,
  factor: number,
): void {
  for (let start = 0; start < states.length; start += width) {
    const slope = 2 * factor * perSize(targets, start, width)
    for (let i = start; i < start + width; i++) onStates[i] += slope * (states[i] - targets[i])
  }
}

function perSize(targets: Float32Array, start: number, width: number): number {
  let size = 0
  for (let i = start; i < start + width; i++) size += targets[i] ** 2
  return size > 0 ? 1 / size : 0
}

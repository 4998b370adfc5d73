import { type ColumnTask, fromRow } from '../../contract.js'

/** A task cut into runs of `height` rows, the last one perhaps lower. */
export function cutRows<T extends ColumnTask>(task: T, height: number): T[] {
  const parts: T[] = []
  for (let row = 0; row < task.rows; row += height) {
    parts.push({
      ...task,
      rows: Math.min(height, task.rows - row),
      firstRow: task.firstRow + row,
      indexOffset: task.indexOffset + row * task.indexStride,
      ...(task.scales && { scales: { ...task.scales, values: fromRow(task.scales.values, row) } }),
    })
  }
  return parts
}

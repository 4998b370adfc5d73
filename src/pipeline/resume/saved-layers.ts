import { join } from 'node:path'
import { writeAt } from '../../checkpoint/file-system.js'
import type { ModuleRecord } from '../../checkpoint/quantized/quantized-config.js'
import { readQuantizedLayer, recordOf, storedTensors } from '../../checkpoint/quantized/quantized-tensors.js'
import { buildHeader, byAlignment } from '../../checkpoint/safetensors/safetensors-header.js'
import { openSafetensors } from '../../checkpoint/sources/open-safetensors.js'
import { tensorSource } from '../../checkpoint/tensor-source.js'
import { pack, type QuantizedLayer } from '../../packing/quantized-layer.js'
import type { LayerReport } from '../quantize/layers/layer-report.js'
import type { WriteFile } from './journal.js'

/** A quantized layer and what is reported of it. */
export interface SavedLayer {
  readonly layer: QuantizedLayer
  readonly report: LayerReport
}

/** The member of a file's `__metadata__` that says how its layers are read, and what is reported of them. */
const LAYERS_KEY = 'gptvq_layers'

interface StatedLayer {
  readonly record: ModuleRecord
  readonly report: LayerReport
}

/** Writes the layers of a block as a safetensors file, in the order given. */
export function writeLayers(layers: readonly SavedLayer[]): WriteFile {
  return async (handle) => {
    const stated: StatedLayer[] = []
    const tensors = layers.flatMap(({ layer, report }) => {
      const packed = pack(layer)
      stated.push({ record: recordOf(packed, 'F32', report.relativeError), report })
      return storedTensors(report.name, packed)
    })
    tensors.sort(byAlignment)
    const header = buildHeader(tensors, { [LAYERS_KEY]: JSON.stringify(stated) })
    await writeAt(handle, header, 0)
    let position = header.length
    for (const { bytes } of tensors) {
      await writeAt(handle, bytes, position)
      position += bytes.length
    }
  }
}

/** Reads what {@link writeLayers} wrote. @throws CheckpointError for a damaged file */
export async function readLayers(folder: string, name: string): Promise<SavedLayer[]> {
  const file = await openSafetensors(join(folder, name))
  try {
    const source = tensorSource(file.path, file.tensors, file.readRange, file.close)
    const stated = JSON.parse(file.metadata.get(LAYERS_KEY) ?? '[]') as StatedLayer[]
    const layers: SavedLayer[] = []
    for (const { record, report } of stated) {
      layers.push({ layer: await readQuantizedLayer(source, report.name, record), report })
    }
    return layers
  } finally {
    await file.close()
  }
}

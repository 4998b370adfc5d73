import { UnsupportedError } from '../../common/errors.js'

/** What stands in a browser in the place of `tensors/vector-jacobian.ts`. @throws UnsupportedError always */
export function vectorJacobian(): never {
  throw new UnsupportedError(
    'gradients are computed in Node only; in a browser leave out what needs them: tuningEpochs, and bits that layers ' +
      'share (a fractional bits, or bitsPerValue)',
  )
}

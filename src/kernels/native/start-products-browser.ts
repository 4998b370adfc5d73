import { OptionError } from '../../common/errors.js'

/** What stands in a browser in the place of `start-products.ts`: a page has no native libraries. */
export async function startProducts(name = 'wasm'): Promise<string> {
  if (name === 'wasm' || name === 'auto') return 'wasm'
  throw new OptionError('products', `found ${JSON.stringify(name)}; a browser has 'wasm' only`)
}

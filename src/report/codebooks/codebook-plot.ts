import { requireObject } from '../../common/check-option.js'
import { type PictureOptions, pictureWidth } from '../check.js'
import { type CodebookGroup, checkGroup } from './codebook-group.js'
import { linePicture } from './codebook-line.js'
import { pairPicture } from './codebook-pairs.js'
import { planePicture } from './codebook-plane.js'

/**
 * Draws one codebook over the weights that it stands for.
 *
 * - vectors of 1: a number line under the density of the weights, with the scalar grid of equal bits below
 * - vectors of 2: the weights as a density in the plane under the scalar grid of equal bits, and beside it under the
 *   centroids and their cells (the "blessing of dimensionality" of van Baalen et al. 2024, figure 1)
 * - vectors of 3 or 4: the same density and centroids for every pair of components
 *
 * The cells are those of plain distance; GPTVQ measures each vector by the Hessian, so its own cells differ a little
 * from column to column. Without `weights` only the codebook is drawn, its cells shaded by their use. Of large groups
 * and codebooks a sample is drawn, the same every time, and the picture says so.
 *
 * @returns an SVG as text, readable in light, dark and print
 * @throws OptionError naming the field that cannot be right
 */
export function codebookPlot(group: CodebookGroup, options: PictureOptions = {}): string {
  requireObject('group', group)
  checkGroup(group)
  const width = pictureWidth(options, group.vectorDim === 1 ? 560 : 720)
  if (group.vectorDim === 1) return linePicture(group, width, options.title)
  if (group.vectorDim === 2) return planePicture(group, width, options.title)
  return pairPicture(group, width, options.title)
}

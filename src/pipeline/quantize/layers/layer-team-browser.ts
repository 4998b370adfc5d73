import { OptionError } from '../../../common/errors.js'

/** What stands in a browser in the place of `layer-team.ts`: a page has no queue. */
export async function openTeam({ redis, shared }: { redis?: string; shared?: string }): Promise<undefined> {
  if (redis === undefined && shared === undefined) return undefined
  throw new OptionError(
    redis === undefined ? 'shared' : 'redis',
    'a browser cannot share its work; leave it out',
  )
}

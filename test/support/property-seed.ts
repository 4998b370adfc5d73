import fc from 'fast-check'

// the same cases wherever the tests run, so that a failure says something of the change; PROPERTY_SEED has them try others
fc.configureGlobal({ seed: Number(process.env.PROPERTY_SEED ?? 1) })

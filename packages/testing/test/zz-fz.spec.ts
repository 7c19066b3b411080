import { expect, it } from '@jest/globals';
import { fuzzStore } from '@nestjs-secrets/testing';
it('x', async () => { const r = await fuzzStore({ mutations: 1500, seed: 3 }); console.log(JSON.stringify(r,null,1)); }, 500000);

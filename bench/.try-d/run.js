import { benchStore } from './store.js'; for (const r of await benchStore()) console.log(JSON.stringify(r));

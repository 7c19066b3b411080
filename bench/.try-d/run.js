import { benchStore } from './store.js';
console.log(await benchStore());

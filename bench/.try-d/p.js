import Database from 'better-sqlite3';
import { sqliteStore } from '@nestjs-secrets/typeorm';
import { mkdtempSync } from 'node:fs';
const V=Buffer.alloc(600,1);
for (const dir of ['/tmp/d-x-','/work/d-x-']) {
const f=mkdtempSync(dir);
const d=new Database(f+'/a.sqlite'); console.log(d.pragma('journal_mode = WAL'), d.pragma('synchronous = FULL'), d.pragma('synchronous'));
d.exec('CREATE TABLE bare (key TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL)');
const u=d.prepare('INSERT INTO bare (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value');
const put=d.transaction(k=>{u.run(k,V)});
let t=performance.now(); for(let i=0;i<400;i++) put('k'+i%100); console.log(dir,'raw us',(performance.now()-t)/400*1000);
t=performance.now(); for(let i=0;i<400;i++) put.immediate('k'+i%100); console.log(dir,'raw imm us',(performance.now()-t)/400*1000);
const s=sqliteStore({path:f+'/b.sqlite'}); await s.open();
t=performance.now(); for(let i=0;i<400;i++) await s.commit({conditions:[],writes:[{key:'k'+i%100,value:V}]}); console.log(dir,'store us',(performance.now()-t)/400*1000);
t=performance.now(); for(let i=0;i<400;i++) await s.get('k'+i%100); console.log(dir,'get us',(performance.now()-t)/400*1000);
t=performance.now(); for(let i=0;i<400;i++) await new Promise(r=>setImmediate(r)); console.log('immediate us',(performance.now()-t)/400*1000);
await s.close(); d.close();
}

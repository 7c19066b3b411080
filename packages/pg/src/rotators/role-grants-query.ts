/**
 * Everything the roles `$1` (oids) were granted in this database and on objects the whole server shares, one row a privilege:
 * `role` (oid), `head` and `tail` of the granting and `revoke_head`, `revoke_tail` of the revoking statement (null: report only), `label`.
 *
 * Led by `pg_shdepend`, in which PostgreSQL notes every object whose access list, policy or default privileges name a role, so that the cost
 * follows what the roles have rather than what the database holds (hence the lateral look-ups by oid). `pg_identify_object` gives names ready for use in SQL.
 */
export function roleGrantsQuery(roleOids: readonly number[], serverVersion: number): string {
  // Parameters have access lists since PostgreSQL 15.
  const parameters =
    serverVersion < 150_000
      ? ''
      : `
  UNION ALL
  SELECT d.role, 'PARAMETER', (SELECT string_agg(quote_ident(part), '.') FROM unnest(string_to_array(p.parname, '.')) part), NULL, p.paracl
  FROM dependency d JOIN pg_parameter_acl p ON p.oid = d.objid WHERE d.class = 'pg_parameter_acl' AND d.deptype = 'a'`;
  return `
WITH dependency AS (
  SELECT s.refobjid AS role, c.relname AS class, s.classid, s.objid, s.objsubid, s.deptype
  FROM pg_shdepend s JOIN pg_class c ON c.oid = s.classid
  WHERE s.refclassid = 'pg_authid'::regclass
    AND s.refobjid = ANY ('{${roleOids.map(Number).join(',')}}'::oid[])
    AND (s.deptype IN ('a', 'r') OR s.deptype = 'o' AND c.relname IN ('pg_default_acl', 'pg_user_mapping'))
    AND s.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
), object (role, keyword, identity, attribute, acl) AS (
  SELECT d.role, c.keyword, (pg_identify_object(d.classid, d.objid, 0)).identity, NULL::name, c.acl
  FROM dependency d CROSS JOIN LATERAL (
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relacl FROM pg_class WHERE d.class = 'pg_class' AND oid = d.objid AND relpersistence <> 't'
    UNION ALL SELECT 'ROUTINE', proacl FROM pg_proc WHERE d.class = 'pg_proc' AND oid = d.objid
    UNION ALL SELECT 'TYPE', typacl FROM pg_type WHERE d.class = 'pg_type' AND oid = d.objid
    UNION ALL SELECT 'SCHEMA', nspacl FROM pg_namespace WHERE d.class = 'pg_namespace' AND oid = d.objid
    UNION ALL SELECT 'LANGUAGE', lanacl FROM pg_language WHERE d.class = 'pg_language' AND oid = d.objid
    UNION ALL SELECT 'LARGE OBJECT', lomacl FROM pg_largeobject_metadata WHERE d.class = 'pg_largeobject' AND oid = d.objid
    UNION ALL SELECT 'FOREIGN DATA WRAPPER', fdwacl FROM pg_foreign_data_wrapper WHERE d.class = 'pg_foreign_data_wrapper' AND oid = d.objid
    UNION ALL SELECT 'FOREIGN SERVER', srvacl FROM pg_foreign_server WHERE d.class = 'pg_foreign_server' AND oid = d.objid
    UNION ALL SELECT 'DATABASE', datacl FROM pg_database WHERE d.class = 'pg_database' AND oid = d.objid
    UNION ALL SELECT 'TABLESPACE', spcacl FROM pg_tablespace WHERE d.class = 'pg_tablespace' AND oid = d.objid
  ) c (keyword, acl)
  WHERE d.objsubid = 0 AND d.deptype = 'a'
  UNION ALL
  SELECT d.role, 'TABLE', (pg_identify_object(d.classid, d.objid, 0)).identity, a.attname, a.attacl
  FROM dependency d JOIN pg_attribute a ON a.attrelid = d.objid AND a.attnum = d.objsubid
  WHERE d.class = 'pg_class' AND d.objsubid <> 0 AND d.deptype = 'a'${parameters}
), granted AS (
  SELECT o.role, format('%s%s ON %s %s', a.privilege_type, '(' || quote_ident(o.attribute) || ')', o.keyword, o.identity) AS what,
    bool_or(a.is_grantable) AS grantable
  FROM object o CROSS JOIN LATERAL aclexplode(o.acl) a WHERE a.grantee = o.role GROUP BY 1, 2
), defaults AS (
  SELECT DISTINCT d.role, d.deptype, p.defaclrole, p.defaclnamespace, p.defaclacl,
    coalesce(' IN SCHEMA ' || quote_ident(n.nspname), '') AS place,
    acldefault(CASE p.defaclobjtype WHEN 'S' THEN 's' ELSE p.defaclobjtype END, p.defaclrole) AS builtin,
    CASE p.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'ROUTINES' WHEN 'T' THEN 'TYPES'
      WHEN 'n' THEN 'SCHEMAS' ELSE 'LARGE OBJECTS' END AS kind
  FROM dependency d JOIN pg_default_acl p ON p.oid = d.objid LEFT JOIN pg_namespace n ON n.oid = p.defaclnamespace
  WHERE d.class = 'pg_default_acl'
), default_to_role AS (
  SELECT f.role, quote_ident(pg_get_userbyid(f.defaclrole)) AS giver, f.place, a.privilege_type || ' ON ' || f.kind AS what, a.is_grantable
  FROM defaults f CROSS JOIN LATERAL aclexplode(f.defaclacl) a WHERE f.deptype = 'a' AND a.grantee = f.role AND f.defaclrole <> f.role
), default_by_role AS (
  SELECT f.role, f.place, a.privilege_type || ' ON ' || f.kind AS what, a.is_grantable, true AS given,
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS taker
  FROM defaults f CROSS JOIN LATERAL aclexplode(f.defaclacl) a
  WHERE f.deptype = 'o' AND a.grantee <> f.role
    AND (f.defaclnamespace <> 0 OR NOT EXISTS (SELECT FROM aclexplode(f.builtin) b WHERE b.grantee = a.grantee AND b.privilege_type = a.privilege_type))
  UNION ALL
  SELECT f.role, f.place, b.privilege_type || ' ON ' || f.kind, false, false, 'PUBLIC'
  FROM defaults f CROSS JOIN LATERAL aclexplode(f.builtin) b
  WHERE f.deptype = 'o' AND f.defaclnamespace = 0 AND b.grantee = 0
    AND NOT EXISTS (SELECT FROM aclexplode(f.defaclacl) a WHERE a.grantee = 0 AND a.privilege_type = b.privilege_type)
)
SELECT role::int8, 'GRANT ' || what || ' TO ' AS head, CASE WHEN grantable THEN ' WITH GRANT OPTION' ELSE '' END AS tail,
  'REVOKE ' || what || ' FROM ' AS revoke_head, '' AS revoke_tail,
  what || CASE WHEN grantable THEN ' with grant option' ELSE '' END AS label
FROM granted
UNION ALL
SELECT role::int8, format('ALTER DEFAULT PRIVILEGES FOR ROLE %s%s GRANT %s TO ', giver, place, what),
  CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END,
  format('ALTER DEFAULT PRIVILEGES FOR ROLE %s%s REVOKE %s FROM ', giver, place, what), '',
  format('%s by default from %s%s', what, giver, place)
FROM default_to_role
UNION ALL
SELECT role::int8, 'ALTER DEFAULT PRIVILEGES FOR ROLE ',
  CASE WHEN given THEN format('%s GRANT %s TO %s%s', place, what, taker, CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
    ELSE format('%s REVOKE %s FROM %s', place, what, taker) END,
  'ALTER DEFAULT PRIVILEGES FOR ROLE ',
  CASE WHEN given THEN format('%s REVOKE %s FROM %s', place, what, taker) ELSE format('%s GRANT %s TO %s', place, what, taker) END,
  format('%s by default %s %s%s', what, CASE WHEN given THEN 'to' ELSE 'not to' END, taker, place)
FROM default_by_role
UNION ALL
SELECT d.role::int8, NULL, NULL, NULL, NULL,
  CASE d.deptype WHEN 'r' THEN 'part in ' ELSE '' END || coalesce(pg_describe_object(d.classid, d.objid, d.objsubid), '?')
FROM dependency d WHERE d.deptype = 'r'
UNION ALL
SELECT d.role::int8, NULL, NULL, NULL, NULL, 'user mapping for server ' || quote_ident(m.srvname)
FROM dependency d JOIN pg_user_mappings m ON m.umid = d.objid WHERE d.class = 'pg_user_mapping'`;
}

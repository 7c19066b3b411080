import path from 'node:path';
import ts from 'typescript';

/**
 * Compiles snippets as if they were files beside the examples, with the options of tsconfig.json, and gives what the compiler has to say
 * about each. They exist in memory only. `snippets`: code by the name of the file it is to be.
 */
export function compilerErrors(repository: string, snippets: ReadonlyMap<string, string>): Map<string, string[]> {
  const configFile = path.join(repository, 'tsconfig.json');
  const { config } = ts.readConfigFile(configFile, (file) => ts.sys.readFile(file));
  const { options } = ts.parseJsonConfigFileContent({ ...config, include: [], files: [] }, ts.sys, repository);
  const host = ts.createCompilerHost(options);
  const folder = path.join(repository, 'docs/examples');
  const files = new Map([...snippets].map(([name, code]) => [path.join(folder, name), code]));
  const { fileExists, readFile } = host;
  host.fileExists = (file) => files.has(file) || fileExists(file);
  host.readFile = (file) => files.get(file) ?? readFile(file);
  // Two snippets may use one name for different things.
  const program = ts.createProgram(
    [...files.keys()],
    { ...options, moduleDetection: ts.ModuleDetectionKind.Force },
    host,
  );
  return new Map(
    [...snippets.keys()].map((name) => {
      const source = program.getSourceFile(path.join(folder, name));
      const diagnostics = [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)];
      return [name, diagnostics.map((diagnostic) => describe(diagnostic))];
    }),
  );
}

function describe({ file, start, messageText }: ts.Diagnostic): string {
  const line = file === undefined || start === undefined ? 0 : file.getLineAndCharacterOfPosition(start).line + 1;
  return `line ${line}: ${ts.flattenDiagnosticMessageText(messageText, ' ')}`;
}

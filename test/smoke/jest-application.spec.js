// Runs under Jest in CommonJS mode, against the compiled application: what a Nest 11 team's own tests do.
const { runApplication } = require('./out/application.js');
const { runCompanions } = require('./out/companions.js');

test('the application boots, rotates and shuts down', () => runApplication());
test('the companion packages load and work', () => runCompanions());

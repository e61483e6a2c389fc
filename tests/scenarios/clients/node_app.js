// An application on node-postgres: pool.connect() without client.release().
const { Pool } = require("pg");

const READ = "SELECT name, left_over FROM stock WHERE id = 5";

async function main() {
  const given = JSON.parse(process.argv[2]);
  const pool = new Pool({
    max: (given.lost || 0) + (given.kept || 0),
    idleTimeoutMillis: 0,
    application_name: process.env.PGAPPNAME,
  });
  pool.on("error", () => {}); // ended by the stage
  const lost = [];
  for (let n = 0; n < (given.lost || 0); n++) lost.push(await asked(pool));
  const kept = [];
  for (let n = 0; n < (given.kept || 0); n++) kept.push(await asked(pool));
  const pids = kept.map((client) => client.processID);
  kept.forEach((client) => client.release());
  const told = { lost: lost.map((client) => client.processID), kept: pids, busy: [] };
  process.stdout.write(JSON.stringify(told) + "\n");
  lost.forEach((client) => client.on("error", () => {}));
  process.stdin.resume();
  process.stdin.on("end", () => process.exit(0));
}

async function asked(pool) {
  const client = await pool.connect();
  await client.query(READ);
  return client;
}

main();

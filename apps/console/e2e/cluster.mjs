// A cluster for the console's tests and for its development: a real server, real agents on this machine's Docker engine,
// people, and work for them to look at. Enter at `start`; by hand, `node e2e/cluster.mjs` starts one, prints where it is
// and how to sign in as one line of JSON, and ends it at Ctrl+C.
//
// Everything is seeded through the command line, as a person would. Processes die with whoever started them (setpriv),
// and what agents made in the engine is found by the label `lattice.node` with their ids alone. The programs are those in
// LATTICE_BIN_DIR. Plain JavaScript without dependencies, so that it runs before `npm ci` has.
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, mkdir, open, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const run = promisify(execFile)
const PATIENCE_MS = 60_000
const BUSYBOX = 'lattice-test/busybox:1'

/** Who may do what in the seeded cluster; the passwords open nothing else. */
export const PEOPLE = {
  admin: { user: 'ada', password: 'console-e2e-admin', role: 'admin' },
  viewer: { user: 'vera', password: 'console-e2e-viewer', role: 'viewer' },
}

// A stack whose services are together, since nodes that share an engine cannot each have a network of one name; one that
// runs beside it; and one that finds no node.
const SHOP = `name: shop
services:
  web:
    image: ${BUSYBOX}
    command: ["httpd", "-f", "-v", "-p", "8080", "-h", "/www"]
    ports: ["8080"]
    networks: [back]
    environment: { GREETING: hello, API_PASSWORD: not-for-eyes }
    deploy: { replicas: 2, resources: { limits: { cpus: "0.1", memory: 16M } } }
  talker:
    image: ${BUSYBOX}
    command: ["sh", "-c", "trap exit TERM; i=0; while :; do i=$$((i+1)); echo line $$i; sleep 1; done"]
    networks: [back]
    volumes: ["notes:/notes"]
    deploy: { resources: { limits: { cpus: "0.1", memory: 16M } } }
networks: { back: {} }
volumes: { notes: {} }
`
const CLOCK = `name: clock
services:
  ticker:
    image: ${BUSYBOX}
    command: ["sh", "-c", "trap exit TERM; while :; do date; sleep 1; done"]
    deploy: { resources: { limits: { cpus: "0.1", memory: 16M } } }
`
const ATTIC = `name: attic
services:
  radio:
    image: ${BUSYBOX}
    command: ["sleep", "1000000"]
    deploy: { placement: { constraints: ["node.labels.place == attic"] } }
`

/**
 * Starts a cluster and seeds it.
 * @param {{ nodes?: string[], pending?: string[], begun?: (cluster: Cluster) => void }} [options] who is approved, who
 *   waits for that, and who wants to know the cluster while it starts
 */
export async function start(options = {}) {
  const { nodes = ['oak', 'elm'], pending = ['newcomer'], begun } = options
  const cluster = new Cluster(await mkdtemp('/tmp/lc-'))
  begun?.(cluster)
  try {
    await cluster.startServer()
    await cluster.people()
    for (const name of nodes) await cluster.join(name)
    for (const name of pending) await cluster.ask(name)
    await cluster.deploy(SHOP)
    await cluster.deploy(CLOCK)
    // Nobody waits for what can never run.
    await cluster.deploy(ATTIC, '--no-wait')
    return cluster
  } catch (error) {
    // Where somebody stopped it meanwhile, that is why it failed.
    await cluster.stop()
    throw error
  }
}

class Cluster {
  #processes = []
  #agents = []
  #engine = ''
  #stopped

  constructor(home) {
    this.home = home
  }

  /** Where API and console listen. */
  url = ''

  /** The folder of its state; short, since a socket's path has at most 107 bytes. */
  home

  async startServer() {
    this.#engine = await engineSocket()
    const [api, agents] = [await freePort(), await freePort()]
    this.url = `http://127.0.0.1:${api}`
    const config = path.join(this.home, 'server.toml')
    await writeFile(config, `cluster_name = "console"
[api]
listen = "127.0.0.1:${api}"
[agents]
listen = "127.0.0.1:${agents}"
advertise = ["127.0.0.1:${agents}"]
heartbeat_secs = 1
presence_grace_secs = 5
`)
    const server = await this.#spawn('lattice', ['server', '--config', config, '--home', this.home], 'server')
    await until('the server is ready', async () => {
      if (server.exitCode !== null) throw new Fatal(`the server ended by itself:\n${await this.log('server')}`)
      return JSON.parse(await this.lattice(['status', '-o', 'json'])).ready
    })
  }

  async people() {
    for (const { user, password, role } of Object.values(PEOPLE)) {
      await this.lattice(['user', 'create', user, '--role', role], `${password}\n`)
    }
  }

  /** A node that is approved by its token, and connected. */
  async join(name) {
    const home = await this.#machine(name, ['--auto-approve'])
    await this.#agentCommand(home, ['join', '--name', name, '--token-file', path.join(home, 'token')])
    // Whoever runs tests may have no right to change the firewall.
    await this.#spawn('lattice-agent', ['run', '--own-machine', '--home', home], name)
    await until(`${name} is connected`, async () => (await this.node(name)).presence.state === 'connected')
  }

  /** A computer that asks to join; somebody has to decide. */
  async ask(name) {
    const home = await this.#machine(name, [])
    const args = ['join', '--name', name, '--token-file', path.join(home, 'token'), '--home', home]
    await this.#spawn('lattice-agent', args, name)
    await until(`${name} asks`, () => this.node(name))
  }

  /** Deploys a Compose file, and waits until it runs unless the flags say otherwise. */
  async deploy(text, ...flags) {
    const file = path.join(this.home, 'compose.yaml')
    await writeFile(file, text)
    await this.lattice(['deploy', '-f', file, ...flags])
  }

  async node(name) {
    return JSON.parse(await this.lattice(['node', 'show', name, '-o', 'json']))
  }

  /** kill -9 of a node's agent. */
  async kill(name) {
    const found = this.#processes.find((it) => it.name === name)
    if (!found) throw new Error(`no process is called ${name}`)
    await end(found.child)
  }

  /** What a command line of the admin's says on standard output. */
  async lattice(args, input) {
    return command(program('lattice'), args, { LATTICE_HOME: this.home }, input)
  }

  /** The last words of the server, or of a node's agent. */
  async log(name) {
    const text = await readFile(path.join(this.home, `${name}.log`), 'utf8').catch(() => '')
    return text.split('\n').slice(-40).join('\n')
  }

  /** Ends everything, once; nothing stays in the engine, nor on disk. */
  stop() {
    return (this.#stopped ??= this.#end())
  }

  async #end() {
    await Promise.all(this.#processes.map(({ child }) => end(child)))
    for (const home of this.#agents) await this.#clean(home)
    await rm(this.home, { recursive: true, force: true })
  }

  async #machine(name, flags) {
    const home = path.join(this.home, name)
    await mkdir(path.join(home, 'agent'), { recursive: true })
    await writeFile(path.join(home, 'agent', 'agent.toml'), `docker_host = "${this.#engine}"\n`)
    const token = await this.lattice(['token', 'create', '--uses', '1', ...flags])
    await writeFile(path.join(home, 'token'), token.trim(), { mode: 0o600 })
    this.#agents.push(home)
    return home
  }

  #agentCommand(home, args) {
    return command(program('lattice-agent'), [...args, '--home', home], {})
  }

  async #spawn(name, args, label) {
    const log = await open(path.join(this.home, `${label}.log`), 'a')
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', '--', program(name), ...args], {
      env: environment({ LATTICE_HOME: this.home }),
      stdio: ['ignore', log.fd, log.fd],
    })
    await once(child, 'spawn')
    await log.close()
    this.#processes.push({ name: label, child })
    return child
  }

  async #clean(home) {
    const identity = await readFile(path.join(home, 'agent', 'identity.json'), 'utf8').catch(() => '{}')
    const { node } = JSON.parse(identity)
    if (!node) return
    const filter = ['--filter', `label=lattice.node=${node}`]
    const kinds = [
      [['ps', '--all', '--quiet'], ['rm', '--force', '--volumes']],
      [['network', 'ls', '--quiet'], ['network', 'rm']],
      [['volume', 'ls', '--quiet'], ['volume', 'rm', '--force']],
    ]
    for (const [list, remove] of kinds) {
      const found = (await this.#docker([...list, ...filter])).split('\n').filter(Boolean)
      if (found.length) await this.#docker([...remove, ...found])
    }
  }

  #docker(args) {
    return command('docker', ['-H', this.#engine, ...args], {})
  }
}

/** A wait that cannot come true any more. */
class Fatal extends Error {}

/** Waits for a condition; an error is a "not yet", and the last one is told when patience ends. */
export async function until(what, condition, patience = PATIENCE_MS) {
  const end = Date.now() + patience
  let last = 'it was not so'
  while (Date.now() < end) {
    try {
      const answer = await condition()
      if (answer) return answer
    } catch (error) {
      if (error instanceof Fatal) throw error
      last = String(error)
    }
    await new Promise((wake) => setTimeout(wake, 100))
  }
  throw new Error(`${what}: not within ${patience / 1000} s; last: ${last}`)
}

function program(name) {
  const folder = process.env.LATTICE_BIN_DIR
  if (!folder) throw new Error('LATTICE_BIN_DIR is not set: it is the folder of the programs under test, as target/debug')
  return path.join(folder, name)
}

/** What this process has, without what would point the programs elsewhere. */
function environment(more) {
  const clean = { ...process.env, NO_COLOR: '1', ...more }
  const foreign = ['LATTICE_SERVER', 'LATTICE_TOKEN', 'LATTICE_TOKEN_FILE', 'LATTICE_PROJECT', 'DOCKER_HOST']
  for (const name of [...foreign, 'DOCKER_CONTEXT', 'HTTPS_PROXY', 'https_proxy']) delete clean[name]
  return clean
}

async function command(file, args, more, input = '') {
  const going = run(file, args, { env: environment(more), timeout: 120_000, maxBuffer: 16 << 20 })
  going.child.stdin?.end(input)
  try {
    return (await going).stdout
  } catch (error) {
    throw new Error(`${path.basename(file)} ${args.join(' ')}: ${error.stderr || error.message}`, { cause: error })
  }
}

async function engineSocket() {
  if (process.env.DOCKER_HOST?.startsWith('unix://')) return process.env.DOCKER_HOST
  return (await command('docker', ['context', 'inspect', '--format', '{{.Endpoints.docker.Host}}'], {})).trim()
}

async function freePort() {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

async function end(child) {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  let ended = false
  const begun = (cluster) => {
    const end = () => {
      ended = true
      void cluster.stop().finally(() => process.exit(0))
    }
    for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, end)
  }
  try {
    const cluster = await start({ begun })
    console.log(JSON.stringify({ url: cluster.url, people: PEOPLE }))
  } catch (error) {
    if (!ended) throw error
  }
  // Signals alone keep no process alive.
  setInterval(() => undefined, 1 << 30)
}

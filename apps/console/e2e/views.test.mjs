// Drives the console in a real browser against a real server with real agents: node --test e2e/views.test.mjs
//
// The server serves the console itself, as it does for people, so its Content-Security-Policy holds here: whatever breaks
// it, asks another host or is an error of the page fails the test. axe looks at every view, light and dark, wide and
// narrow. With UPDATE_SHOTS=1 the same tour writes the user guide's pictures into docs/console/.
import assert from 'node:assert/strict'
import { access, mkdir, writeFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import axe from 'axe-core'
import { chromium } from '@playwright/test'
import { PEOPLE, start } from './cluster.mjs'

const SHOTS = fileURLToPath(new URL('../../../docs/console/', import.meta.url))
const PATIENCE_MS = 60_000
/** Every view: a word for its picture, its address, and a heading that says that it is there. */
const VIEWS = [
  ['overview', '/', 'Overview'],
  ['nodes', '/nodes', 'Nodes'],
  ['node', '/nodes/elm', 'elm'],
  ['approval', '/nodes/newcomer', 'newcomer'],
  ['add-node', '/add-node', 'Add a node'],
  ['stacks', '/stacks', 'Stacks'],
  ['stack', '/stacks/default/shop', 'shop'],
  ['service', '/stacks/default/shop/talker', 'talker'],
  ['deploy', '/deploy?project=default&stack=shop', 'Deploy shop again'],
  ['jobs', '/jobs', 'Jobs'],
  ['volumes', '/volumes', 'Volumes'],
  ['secrets', '/secrets', 'Secrets'],
  ['pools', '/pools', 'Pools'],
  ['ranking', '/ranking', 'Ranking'],
  ['alerts', '/alerts', 'Alerts'],
  ['events', '/events', 'Events'],
  ['audit', '/audit', 'Audit'],
  ['settings', '/settings', 'Settings'],
]
const SIZES = { desktop: { width: 1440, height: 900 }, phone: { width: 390, height: 844 } }

let cluster
let browser
before(async () => {
  cluster = await start()
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] })
})
after(async () => {
  await browser?.close()
  await cluster?.stop()
})

/** A page with somebody signed in, and all that went wrong on it. */
async function page({ user, password } = PEOPLE.admin, options = {}) {
  const context = await browser.newContext({ viewport: SIZES.desktop, reducedMotion: 'reduce', ...options })
  const page = await context.newPage()
  page.setDefaultTimeout(PATIENCE_MS)
  const wrong = []
  page.on('pageerror', (error) => wrong.push(`error: ${error.message}`))
  page.on('console', (message) => {
    // Before somebody signs in, the browser says of whoami that it was refused; and where a container's network is made on
    // this machine, it begins its requests anew.
    const expected = /401|ERR_NETWORK_CHANGED/.test(message.text())
    if (message.type() === 'error' && !expected) wrong.push(message.text())
  })
  page.on('request', (request) => {
    const { origin, protocol } = new URL(request.url())
    if (origin !== cluster.url && protocol !== 'data:') wrong.push(`asked another host: ${request.url()}`)
  })
  await page.goto(cluster.url)
  await page.getByLabel('User').fill(user)
  await page.locator('input[type=password]').fill(password)
  await page.getByRole('button', { name: 'Sign in' }).click()
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor()
  return { page, wrong, done: () => context.close() }
}

/** To a view as a link leads there. */
async function go(page, path, heading) {
  await page.goto(cluster.url + path)
  await page.getByRole('heading', { name: heading, level: 1, exact: true }).waitFor()
  await page.waitForFunction(() => document.querySelector('[aria-busy="true"]') === null)
}

/** A picture as WebP, which is a third of what PNG takes. */
async function shoot(page, name) {
  const browser = await page.context().newCDPSession(page)
  const { data } = await browser.send('Page.captureScreenshot', { format: 'webp', quality: 85 })
  await writeFile(`${SHOTS}${name}.webp`, Buffer.from(data, 'base64'))
}

/** What axe finds, and whether the page is wider than the screen. */
async function faults(page, where) {
  await page.evaluate(axe.source)
  const { violations } = await page.evaluate(() => globalThis.axe.run())
  const told = violations.map(
    ({ id, nodes }) => `${where}: ${id}: ${nodes.map(({ html }) => html.slice(0, 160)).join(' | ')}`,
  )
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth)
  return wide > 0 ? [...told, `${where}: ${wide} px wider than the screen`] : told
}

test('every view is accessible in light and dark, wide and narrow, under the policy', { timeout: 600_000 }, async () => {
  if (process.env.UPDATE_SHOTS) await mkdir(SHOTS, { recursive: true })
  const found = []
  for (const colorScheme of ['light', 'dark']) {
    const { page: tab, wrong, done } = await page(PEOPLE.admin, { colorScheme })
    for (const [size, viewport] of Object.entries(SIZES)) {
      await tab.setViewportSize(viewport)
      for (const [name, path, heading] of VIEWS) {
        await go(tab, path, heading)
        found.push(...(await faults(tab, `${path}, ${colorScheme}, ${size}`)))
        const picture = `${name}-${colorScheme}-${size}`
        if (process.env.UPDATE_SHOTS) await shoot(tab, picture)
        await access(`${SHOTS}${picture}.webp`).catch(() => found.push(`docs/console/${picture}.webp is missing`))
      }
    }
    found.push(...wrong)
    await done()
  }
  assert.deepEqual(found, [])
})

test('a service is scaled, stopped and started, and its log is followed', { timeout: 180_000 }, async () => {
  const { page: tab, wrong, done } = await page()
  await go(tab, '/stacks/default/shop/web', 'web')
  await tab.getByRole('textbox', { name: 'Replicas' }).fill('3')
  await tab.getByRole('button', { name: 'Scale' }).click()
  await tab.getByText('3 of 3 serve').waitFor()
  await tab.getByRole('button', { name: 'Stop' }).click()
  await tab.getByRole('button', { name: 'Start', exact: true }).click()
  await tab.getByText('3 of 3 serve').waitFor()
  await tab.getByRole('textbox', { name: 'Replicas' }).fill('2')
  await tab.getByRole('button', { name: 'Scale' }).click()
  await tab.getByText('2 of 2 serve').waitFor()
  assert.equal(await tab.getByText('not-for-eyes').count(), 0, 'a value that looks like a secret is masked')

  await go(tab, '/stacks/default/shop/talker', 'talker')
  const log = tab.getByRole('log')
  await log.getByText('line 1', { exact: true }).waitFor()
  const lines = await log.locator('div').count()
  await tab.waitForFunction((lines) => document.querySelectorAll('.log div').length > lines, lines)
  assert.deepEqual(wrong, [])
  await done()
})

test('a Compose file is read as it is typed, deployed, and removed by its name', { timeout: 180_000 }, async () => {
  const { page: tab, wrong, done } = await page()
  await go(tab, '/deploy', 'Deploy')
  const editor = tab.getByRole('textbox', { name: 'Compose file' })
  const write = async (text) => {
    await editor.click()
    await tab.keyboard.press('Control+A')
    // Pasted, as people do: typed line by line the editor would indent for them.
    await editor.evaluate((element, text) => {
      const clipboardData = new DataTransfer()
      clipboardData.setData('text/plain', text)
      element.dispatchEvent(new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))
    }, text)
  }
  const file = (image) => `name: typed\nservices:\n  one:\n    ${image}\n    command: ["sleep", "100000"]\n`
  await write(file('imagine: lattice-test/busybox:1'))
  await tab.getByText('Line 4').first().waitFor()
  assert.ok(await tab.getByRole('button', { name: 'Deploy', exact: true }).isDisabled(), 'a file with errors stays here')
  await write(file('image: lattice-test/busybox:1'))
  await tab.getByText('can be deployed').waitFor()
  await tab.getByRole('button', { name: 'Show what changes' }).click()
  await tab.getByRole('region', { name: 'What changes' }).getByText('create').first().waitFor()
  await tab.getByRole('button', { name: 'Deploy', exact: true }).click()
  await tab.getByRole('heading', { name: 'typed', level: 1 }).waitFor()
  await tab.getByRole('region', { name: 'Services' }).getByText('running').waitFor()

  await tab.getByRole('button', { name: 'Remove…' }).click()
  const sure = tab.getByRole('dialog').getByRole('button', { name: 'Remove', exact: true })
  assert.ok(await sure.isDisabled(), 'nothing is removed before its name is typed')
  await tab.getByLabel('Type typed to confirm').fill('typed')
  await sure.click()
  await tab.getByRole('heading', { name: 'Stacks', level: 1 }).waitFor()
  await tab.getByRole('link', { name: 'typed', exact: true }).waitFor({ state: 'detached' })
  assert.deepEqual(wrong, [])
  await done()
})

test('a command runs in a terminal in a container', { timeout: 120_000 }, async () => {
  const { page: tab, wrong, done } = await page()
  await go(tab, '/stacks/default/shop/talker', 'talker')
  await tab.getByRole('button', { name: 'Open a terminal' }).click()
  const terminal = tab.getByRole('group', { name: 'Terminal' })
  await terminal.getByText('/ #').waitFor()
  await tab.keyboard.type('echo $((6*7)) lattices; printf "\\033[38;2;255;120;0mwarm\\033[0m"; exit 3\n')
  await terminal.getByText('42 lattices').waitFor()
  await tab.getByText('The command ended with exit code 3.').waitFor()
  assert.deepEqual(await faults(tab, 'a terminal'), [])
  assert.deepEqual(wrong, [])
  await done()
})

test('a secret is set, set anew, taken back and deleted, and its value is nowhere', { timeout: 120_000 }, async () => {
  const { page: tab, wrong, done } = await page()
  const set = async (button, fill) => {
    await tab.getByRole('button', { name: button }).click()
    await fill(tab.getByRole('dialog'))
    await tab.getByRole('dialog').getByRole('button', { name: 'Set', exact: true }).click()
    await tab.getByRole('dialog').waitFor({ state: 'detached' })
  }
  await go(tab, '/secrets', 'Secrets')
  await set('New secret…', async (dialog) => {
    await dialog.getByLabel('Name').fill('db_password')
    await dialog.locator('input[type=password]').fill('correct horse')
  })
  await tab.getByRole('cell', { name: 'db_password' }).waitFor()
  await set('New value…', (dialog) => dialog.locator('input[type=password]').fill('battery staple'))
  await tab.getByRole('cell', { name: '2', exact: true }).waitFor()
  await tab.getByRole('button', { name: 'Versions…' }).click()
  await tab.getByRole('button', { name: 'Make it the present one' }).click()
  await tab.getByRole('dialog').getByRole('cell', { name: '3', exact: true }).waitFor()
  await tab.getByRole('dialog').getByRole('button', { name: 'Close' }).click()
  assert.doesNotMatch(await tab.content(), /correct horse|battery staple/)
  await tab.getByRole('button', { name: 'Delete…' }).click()
  await tab.getByLabel('Type db_password to confirm').fill('db_password')
  await tab.getByRole('dialog').getByRole('button', { name: 'Delete', exact: true }).click()
  await tab.getByText('This project has no secrets').waitFor()
  assert.deepEqual(wrong, [])
  await done()
})

test('an event says what led to it and what came of it', { timeout: 120_000 }, async () => {
  const { page: tab, wrong, done } = await page()
  await go(tab, '/events?q=placed', 'Events')
  await tab.getByRole('link', { name: 'because of: default/shop/web#1' }).first().click()
  const chain = tab.getByRole('region', { name: 'What led to it, and what came of it' })
  await chain.getByText('asked for it').waitFor()
  await chain.getByText('version 1').waitFor()
  assert.deepEqual(await faults(tab, 'a chain'), [])
  assert.deepEqual(wrong, [])
  await done()
})

test('a link from the terminal signs in once, and asks whoever is signed in', { timeout: 120_000 }, async () => {
  const link = await (await cluster.lattice(['console'])).trim()
  const context = await browser.newContext()
  const tab = await context.newPage()
  await tab.goto(link)
  await tab.getByRole('heading', { name: 'Overview', level: 1 }).waitFor()
  assert.equal(new URL(tab.url()).hash, '', 'the secret is off the address')
  const again = await (await browser.newContext()).newPage()
  await again.goto(link)
  await again.getByText('the link is unknown, was used').waitFor()
  await again.context().close()
  await tab.goto('about:blank')
  await tab.goto(await (await cluster.lattice(['console'])).trim())
  await tab.getByRole('button', { name: 'Stay local' }).click()
  await tab.getByRole('heading', { name: 'Overview', level: 1 }).waitFor()
  await context.close()
})

test('a viewer is told why not, a node is approved, and one that dies is seen', { timeout: 180_000 }, async () => {
  const viewer = await page(PEOPLE.viewer)
  await go(viewer.page, '/stacks/default/clock/ticker', 'ticker')
  const restart = viewer.page.getByRole('button', { name: 'Restart' })
  assert.equal(await restart.getAttribute('aria-disabled'), 'true')
  await restart.hover()
  await viewer.page.getByRole('tooltip').getByText('it needs stack.change in project default').waitFor()
  await viewer.done()

  const { page: tab, done } = await page()
  await go(tab, '/nodes/newcomer', 'newcomer')
  await tab.getByRole('button', { name: 'Approve' }).click()
  await tab.getByText('This computer asks to join').waitFor({ state: 'detached' })
  await go(tab, '/nodes', 'Nodes')
  await cluster.kill('elm')
  await tab.getByRole('row', { name: /elm/ }).getByText(/disconnected|lost/).waitFor()
  await done()
})

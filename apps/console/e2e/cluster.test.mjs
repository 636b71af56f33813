// What the cluster of the console's tests promises them: node --test e2e/cluster.test.mjs
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { access } from 'node:fs/promises'
import test from 'node:test'
import { PEOPLE, start, until } from './cluster.mjs'

const labelled = (id) =>
  execFileSync('docker', ['ps', '-aq', '--filter', `label=lattice.node=${id}`], { encoding: 'utf8' })

test('a seeded cluster has nodes, somebody who waits, work, and people; it leaves nothing', { timeout: 180_000 }, async () => {
  const cluster = await start()
  let oak
  try {
    oak = await cluster.node('oak')
    assert.equal((await cluster.node('elm')).presence.state, 'connected')
    assert.notEqual((await cluster.node('newcomer')).presence.state, 'connected')
    assert.notEqual(labelled(oak.id) + labelled((await cluster.node('elm')).id), '')

    const sees = async ({ user, password }) => {
      const headers = { 'content-type': 'application/json' }
      const body = JSON.stringify({ user, password })
      const login = await fetch(`${cluster.url}/v1/login`, { method: 'POST', headers, body })
      assert.equal(login.status, 200, await login.clone().text())
      const { token } = await login.json()
      const ask = (path, init) => fetch(cluster.url + path, { ...init, headers: { authorization: `Bearer ${token}` } })
      const { items } = await (await ask('/v1/workloads')).json()
      return { ask, states: Object.fromEntries(items.map((it) => [it.name ?? it.workload, it.state])) }
    }
    const [admin, viewer] = [await sees(PEOPLE.admin), await sees(PEOPLE.viewer)]
    assert.deepEqual(admin.states, { radio: 'pending', talker: 'running', ticker: 'running', web: 'running' })
    assert.deepEqual(viewer.states, admin.states)
    assert.equal((await viewer.ask('/v1/nodes/oak/cordon', { method: 'POST' })).status, 403)
    assert.equal((await admin.ask('/v1/nodes/oak/cordon', { method: 'POST' })).status, 200)

    await cluster.kill('elm')
    await until('elm is missed', async () => (await cluster.node('elm')).presence.state !== 'connected')
  } finally {
    await cluster.stop()
  }
  await assert.rejects(fetch(`${cluster.url}/v1/status`))
  assert.equal(labelled(oak.id), '')
  await assert.rejects(access(cluster.home))
})

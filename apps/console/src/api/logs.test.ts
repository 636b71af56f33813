import { expect, it } from 'vitest';
import { lines } from './logs';

it('a line that comes in pieces is one line', () => {
  const whole = lines();
  expect(whole('{"a":1}\n{"b"')).toEqual(['{"a":1}']);
  expect(whole(':2}')).toEqual([]);
  expect(whole('\n\n{"c":3}\n')).toEqual(['{"b":2}', '{"c":3}']);
});

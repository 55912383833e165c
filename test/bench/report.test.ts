import { expect, test } from 'vitest';
import { figure, median, quantile } from '../../scripts/bench/report.ts';

test('medians and quantiles', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([])).toBeNaN();
  const hundred = Array.from({ length: 100 }, (_, index) => index + 1);
  expect(quantile(hundred, 0.99)).toBe(100);
  expect(quantile([5], 0.99)).toBe(5);
});

test('figures have as many decimals as their size bears', () => {
  expect([123.4, 12.34, 1.234, Number.NaN].map(figure)).toEqual(['123', '12.3', '1.23', '-']);
});

"""The order of 10 rows for seed 7, epochs 0 and 1, by a Philox4x32-10 written from the paper.

python tests/reference/shuffle.py   (its output is in tests/data.rs)
"""

MASK = 2**32 - 1


def block(counter, stream, seed):
    c = [counter & MASK, counter >> 32, stream & MASK, stream >> 32]
    k = [seed & MASK, seed >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & MASK, (p >> 32) ^ c[3] ^ k[1], p & MASK]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def words(stream, seed):
    counter = 0
    while True:
        yield from block(counter, stream, seed)
        counter += 1


def shuffled(n, seed, epoch):
    draw, order = words((1 << 60) ^ epoch, seed), list(range(n))
    for i in reversed(range(1, n)):
        while True:
            low, high = next(draw), next(draw)  # two words make 64 bits, the first is the low one
            product = (high << 32 | low) * (i + 1)
            if product % 2**64 >= 2**64 % (i + 1):
                break
        j = product >> 64
        order[i], order[j] = order[j], order[i]
    return order


print(shuffled(10, 7, 0), shuffled(10, 7, 1))

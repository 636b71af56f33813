// The work by which a GPU is measured; crates/measure/src/gpu.rs and memory.rs say the same in Rust, and check it.

#define GOLDEN 0x9e3779b97f4a7c15UL

ulong mix64(ulong z) {
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9UL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebUL;
    return z ^ (z >> 31);
}

float unit(uint word) { return as_float((word >> 9) | 0x3f800000u); }

float chain(float x, float m, float c, float p, float q) {
    uint z = as_uint(fma(fma(x, m, c), p, q));
    return as_float(((z << 5) & 0x007fffffu) | 0x3f800000u);
}

// One item for each lane.
__kernel void segment(ulong key, uint rounds, __global ulong *out) {
    uint n = (uint)get_global_id(0);
    ulong state = mix64(key + GOLDEN * ((ulong)n + 1));
    uint a = (uint)state, b = (uint)(state >> 32);
    float x0 = unit(a ^ b), x1 = unit(rotate(a, 8u) ^ b);
    float x2 = unit(rotate(a, 16u) ^ b), x3 = unit(rotate(a, 24u) ^ b);
    for (uint round = 0; round < rounds; round++) {
        a = a * 747796405u + 2891336453u;
        uint w = ((a >> ((a >> 28) + 4)) ^ a) * 277803737u;
        w = (w >> 22) ^ w;
        b = (rotate(b, 13u) ^ w) * 0x9e3779b1u;
        float f0 = unit(w), f1 = unit(b), f2 = unit(w + b), f3 = unit(w ^ rotate(b, 16u));
        for (uint step = 0; step < 16; step++) {
            x0 = chain(x0, f0, f1, f2, f3);
            x1 = chain(x1, f1, f2, f3, f0);
            x2 = chain(x2, f2, f3, f0, f1);
            x3 = chain(x3, f3, f0, f1, f2);
        }
        a ^= as_uint(x0) + rotate(as_uint(x1), 11u);
        b += as_uint(x2) ^ rotate(as_uint(x3), 17u);
    }
    out[n] = mix64(((ulong)a << 32) | b);
}

// One item for each 16 lanes of a group.
__kernel void fold(__global const ulong *lanes, __global ulong *out) {
    uint i = (uint)get_global_id(0);
    uint from = (i / 64) * 1024 + i % 64;
    ulong sum = 0;
    for (uint k = 0; k < 16; k++) sum += lanes[from + k * 64];
    out[i] = sum;
}

// 1024 items for each chunk.
__kernel void fill(__global ulong *block, uint words, ulong seed) {
    uint chunk = (uint)get_global_id(0) / 1024;
    ulong base = mix64(seed ^ mix64((ulong)chunk));
    __global ulong *own = block + (ulong)chunk * words;
    for (uint k = (uint)get_global_id(0) % 1024; k < words; k += 1024) own[k] = mix64(base + k * GOLDEN);
}

// 1024 items for each chunk. Words by turns, so that neighbours read what lies together.
__kernel void pass(__global ulong *block, uint words, __global const ulong *keys, uint at, __global ulong *out) {
    uint i = (uint)get_global_id(0);
    ulong key = keys[at], sum = 0;
    __global ulong *own = block + (ulong)(i / 1024) * words;
    for (uint k = i % 1024; k < words; k += 1024) {
        ulong word = (own[k] ^ key) + GOLDEN;
        own[k] = word;
        sum += word;
    }
    out[i] = sum;
}

// 8 items for each chunk: the sums of its eight lanes.
__kernel void lanes(__global const ulong *parts, __global const ulong *keys, uint at, __global ulong *out) {
    uint i = (uint)get_global_id(0);
    uint from = (i / 8) * 1024 + i % 8;
    ulong sum = keys[at];
    for (uint k = 0; k < 128; k++) sum += parts[from + k * 8];
    out[i] = sum;
}

// One item for each chunk: its sum.
__kernel void sums(__global const ulong *lanes, uint at, __global ulong *out) {
    uint i = (uint)get_global_id(0);
    ulong sum = 0;
    for (uint k = 0; k < 8; k++) sum = mix64(sum ^ lanes[i * 8 + k]);
    out[at * 64 + i] = sum;
}

// One item: the key of the next pass.
__kernel void next(__global ulong *keys, uint at, __global const ulong *sums) {
    ulong key = mix64(keys[at]);
    for (uint k = 0; k < 64; k++) key = mix64(key ^ sums[at * 64 + k]);
    keys[at + 1] = key;
}

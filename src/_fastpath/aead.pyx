# cython: language_level=3
"""XAES-256-GCM (C2SP) with the libcrypto that `ssl` and the data plane have loaded anyway: `cryptography` would cost an agent 5 MB.

AES-256-GCM under a key that is derived, for each message, from the first half of a nonce of 192 bits: NIST SP 800-108r1 with CMAC. Nonces
may therefore be random, for as many messages as there will ever be.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcpy, memset

KEY_SIZE = 32
NONCE_SIZE = 24
TAG_SIZE = 16


cdef extern from "<openssl/evp.h>" nogil:
    ctypedef struct EVP_CIPHER:
        pass
    ctypedef struct EVP_CIPHER_CTX:
        pass
    enum:
        EVP_CTRL_AEAD_GET_TAG
        EVP_CTRL_AEAD_SET_TAG
    EVP_CIPHER *EVP_CIPHER_fetch(void *library, const char *algorithm, const char *properties)
    EVP_CIPHER_CTX *EVP_CIPHER_CTX_new()
    void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *context)
    int EVP_CIPHER_CTX_set_padding(EVP_CIPHER_CTX *context, int padding)
    int EVP_CIPHER_CTX_ctrl(EVP_CIPHER_CTX *context, int kind, int argument, void *pointer)
    int EVP_CipherInit_ex2(
        EVP_CIPHER_CTX *context, const EVP_CIPHER *cipher, const unsigned char *key, const unsigned char *iv, int encrypt,
        const void *parameters)
    int EVP_CipherUpdate(EVP_CIPHER_CTX *context, unsigned char *out, int *written, const unsigned char *data, int size)
    int EVP_CipherFinal_ex(EVP_CIPHER_CTX *context, unsigned char *out, int *written)


cdef extern from "<openssl/crypto.h>" nogil:
    void OPENSSL_cleanse(void *pointer, size_t size)


# looked up once: each look-up by name costs as much as the encryption of a kilobyte
cdef EVP_CIPHER *block = EVP_CIPHER_fetch(NULL, "AES-256-ECB", NULL)
cdef EVP_CIPHER *gcm = EVP_CIPHER_fetch(NULL, "AES-256-GCM", NULL)
if block == NULL or gcm == NULL:
    raise ImportError("this libcrypto has no AES-256-GCM")


cdef int derive(EVP_CIPHER_CTX *context, const unsigned char *key, const unsigned char *nonce, unsigned char *derived) noexcept nogil:
    """The message's key: CMAC over two single blocks that have no need of padding. 0: libcrypto failed."""
    cdef unsigned char[16] subkey
    cdef unsigned char[32] blocks
    cdef int written = 0, n, carry
    memset(subkey, 0, 16)
    if EVP_CipherInit_ex2(context, block, key, NULL, 1, NULL) != 1 or EVP_CIPHER_CTX_set_padding(context, 0) != 1:
        return 0
    if EVP_CipherUpdate(context, subkey, &written, subkey, 16) != 1 or written != 16:
        return 0
    carry = subkey[0] >> 7
    for n in range(15):
        subkey[n] = <unsigned char> ((subkey[n] << 1) | (subkey[n + 1] >> 7))
    subkey[15] = <unsigned char> ((subkey[15] << 1) ^ (0x87 * carry))
    for n in range(2):  # counter (16 bits), label "X", a zero, then the context
        blocks[16 * n] = 0
        blocks[16 * n + 1] = <unsigned char> (n + 1)
        blocks[16 * n + 2] = 0x58
        blocks[16 * n + 3] = 0
        memcpy(&blocks[16 * n + 4], nonce, 12)
    for n in range(32):
        blocks[n] ^= subkey[n % 16]
    n = EVP_CipherUpdate(context, derived, &written, blocks, 32)
    OPENSSL_cleanse(subkey, 16)
    return n == 1 and written == 32


cdef int crypt(
    const unsigned char *key, const unsigned char *nonce, const unsigned char *ad, int ad_size, const unsigned char *data, int size,
    unsigned char *out, unsigned char *tag, int encrypt) noexcept nogil:
    """1: done, and when decrypting: authentic."""
    cdef unsigned char[32] derived
    cdef int written = 0, done = 0
    cdef EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new()
    if context == NULL:
        return 0
    if (
        derive(context, key, nonce, derived)
        and EVP_CipherInit_ex2(context, gcm, derived, nonce + 12, encrypt, NULL) == 1
        and (not ad_size or EVP_CipherUpdate(context, NULL, &written, ad, ad_size) == 1)
        and (not size or EVP_CipherUpdate(context, out, &written, data, size) == 1)
        and (encrypt or EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, tag) == 1)
        and EVP_CipherFinal_ex(context, out + size, &written) == 1
        and (not encrypt or EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, tag) == 1)
    ):
        done = 1
    OPENSSL_cleanse(derived, 32)
    EVP_CIPHER_CTX_free(context)
    return done


cdef int length(bytes data) except -1:
    if PyBytes_GET_SIZE(data) >= 1 << 30:
        raise ValueError("more than 1 GiB at once")
    return <int> PyBytes_GET_SIZE(data)


cdef int check(bytes key, bytes nonce) except -1:
    if PyBytes_GET_SIZE(key) != 32 or PyBytes_GET_SIZE(nonce) != 24:
        raise ValueError("a key has 32 bytes and a nonce 24")
    return 0


def encrypt(bytes key not None, bytes nonce not None, bytes data not None, bytes ad not None=b"", /):
    """The ciphertext, TAG_SIZE bytes longer than `data`."""
    check(key, nonce)
    cdef int size = length(data), ad_size = length(ad), done
    cdef bytes sealed = PyBytes_FromStringAndSize(NULL, size + 16)
    cdef const unsigned char *c_key = <const unsigned char *> PyBytes_AS_STRING(key)
    cdef const unsigned char *c_nonce = <const unsigned char *> PyBytes_AS_STRING(nonce)
    cdef const unsigned char *c_ad = <const unsigned char *> PyBytes_AS_STRING(ad)
    cdef const unsigned char *c_data = <const unsigned char *> PyBytes_AS_STRING(data)
    cdef unsigned char *out = <unsigned char *> PyBytes_AS_STRING(sealed)
    with nogil:
        done = crypt(c_key, c_nonce, c_ad, ad_size, c_data, size, out, out + size, 1)
    if not done:
        raise RuntimeError("libcrypto cannot encrypt")
    return sealed


def decrypt(bytes key not None, bytes nonce not None, bytes sealed not None, bytes ad not None=b"", /):
    """What was encrypted. Raises ValueError: another key, nonce or `ad`, or not what was encrypted."""
    check(key, nonce)
    cdef int size = length(sealed) - 16, ad_size = length(ad), done
    if size < 0:
        raise ValueError("shorter than its tag")
    cdef bytes data = PyBytes_FromStringAndSize(NULL, size)
    cdef unsigned char[16] tag
    cdef const unsigned char *c_key = <const unsigned char *> PyBytes_AS_STRING(key)
    cdef const unsigned char *c_nonce = <const unsigned char *> PyBytes_AS_STRING(nonce)
    cdef const unsigned char *c_ad = <const unsigned char *> PyBytes_AS_STRING(ad)
    cdef const unsigned char *c_sealed = <const unsigned char *> PyBytes_AS_STRING(sealed)
    cdef unsigned char *out = <unsigned char *> PyBytes_AS_STRING(data)
    memcpy(tag, c_sealed + size, 16)
    if not size:  # the empty value is one object for the whole process
        out = tag
    with nogil:
        done = crypt(c_key, c_nonce, c_ad, ad_size, c_sealed, size, out, tag, 0)
    if not done:
        raise ValueError("not authentic")
    return data
